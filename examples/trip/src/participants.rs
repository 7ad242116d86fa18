//! Who does the steps: the airline, the bank and who issues tickets. (The hotel is `hotel.py`.)
//!
//! Each has a database of its own. `WithReplyLog` keeps the rules that every participant needs; what is left is what it does.

use std::sync::Arc;

use chassis::settings::{Secret, database_url, hidden};
use chassis::{Parts, Service, Source, Start, http};
use clap::{Parser, ValueEnum};
use envelope::{CloudEvent, Participant};
use saga::Direction;
use saga_runtime::participant::{Address, ReplyLog, ReplySettings, StepHandler, WithReplyLog};
use sqlx::PgConnection;
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::messages::{Cancelled, Done, FLIGHT, PAYMENT, Refused, TICKET, flight, payment, ticket};
use crate::saga::TOPOLOGY;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/participant");

/// The most that the bank takes from anybody.
pub const MOST_CENTS: u32 = 1_000_000;

/// Which participant.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Name {
    /// The airline.
    Flight,
    /// The bank.
    Payment,
    /// Who issues tickets.
    Ticket,
}

/// The settings of a participant.
#[derive(Parser, Clone, Debug)]
#[command(name = "trip-participant", version, about = "A participant of trips")]
pub struct Settings {
    /// Which.
    #[arg(value_enum)]
    pub name: Name,

    /// Where it tells how it is; port 0: any that is free.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: String,

    /// Any database of the Postgres on which the participant's database is made, as a role that may make some.
    #[arg(
        long,
        env = "POSTGRES_URL",
        default_value = "postgres://waybill@127.0.0.1:5432/postgres",
        hide_env_values = true,
        value_name = "URL",
        value_parser = hidden(database_url)
    )]
    pub postgres_url: Secret,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub replies: ReplySettings,

    #[allow(missing_docs)]
    #[command(flatten)]
    pub parts: Parts,
}

/// Runs a participant until shutdown.
///
/// # Errors
/// Where it cannot start.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    match settings.name {
        Name::Flight => serve(FLIGHT, "trip_flight", Flight, settings, shutdown).await,
        Name::Payment => serve(PAYMENT, "trip_payment", Payment, settings, shutdown).await,
        Name::Ticket => serve(TICKET, "trip_ticket", Ticket, settings, shutdown).await,
    }
}

async fn serve<H: StepHandler>(
    participant: Participant,
    database: &'static str,
    steps: H,
    settings: Settings,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let service = Service::start(Start {
        name: participant.name,
        listener: http::listen(&settings.listen, "--listen").await?,
        database_url: &crate::database::make(&settings.postgres_url, database).await?,
        migrator: &MIGRATIONS,
        topology: &TOPOLOGY,
        settings: &settings.parts,
        rebuild: None,
        shutdown,
    })
    .await?;
    let log = ReplyLog::new("replies");
    log.expire(&service, settings.replies);
    let handler = WithReplyLog::new(steps, &log);
    service.consume(vec![Source::new(participant.reads(), CloudEvent::decode)], Arc::new(handler));
    service.run(http::Api::new(http::Routes::new())).await
}

/// The airline. It does not fly to Utopia.
struct Flight;

impl StepHandler for Flight {
    type Command = flight::Command;
    type Reply = flight::Reply;
    const NAME: &'static str = "book_flights";
    const SOURCE: &'static str = "/trip/flight";
    const REPLIES: &'static str = "replies.flight";

    fn address(command: &flight::Command) -> Address {
        let (saga, direction) = match command {
            flight::Command::Book(book) => (book.trip_id, Direction::Execute),
            flight::Command::Cancel(cancel) => (cancel.trip_id, Direction::Compensate),
        };
        Address { saga, step: "book_flight", direction }
    }

    async fn execute(&self, tx: &mut PgConnection, commands: &[&flight::Command]) -> anyhow::Result<Vec<flight::Reply>> {
        let mut replies = Vec::with_capacity(commands.len());
        let mut held = Vec::new();
        for command in commands {
            let trip_id = Self::address(command).saga;
            if matches!(command, flight::Command::Book(book) if book.to == "Utopia") {
                replies.push(Refused { trip_id, reason: "nobody flies there".to_owned() }.into());
                continue;
            }
            held.push(trip_id);
            replies.push(Done { trip_id, reference: reference("flight", trip_id), cents: 41_000 }.into());
        }
        sqlx::query("insert into holds (trip_id) select unnest($1::uuid[])").bind(held).execute(tx).await?;
        Ok(replies)
    }

    async fn compensate(&self, tx: &mut PgConnection, executed: &[(&flight::Command, &flight::Reply)]) -> anyhow::Result<()> {
        let trips: Vec<Uuid> = executed.iter().map(|(command, _)| Self::address(command).saga).collect();
        sqlx::query("delete from holds where trip_id = any($1)").bind(trips).execute(tx).await?;
        Ok(())
    }

    fn compensated(command: &flight::Command) -> Option<flight::Reply> {
        Some(Cancelled { trip_id: Self::address(command).saga }.into())
    }
}

/// The bank. It has a limit.
struct Payment;

impl StepHandler for Payment {
    type Command = payment::Command;
    type Reply = payment::Reply;
    const NAME: &'static str = "take_payments";
    const SOURCE: &'static str = "/trip/payment";
    const REPLIES: &'static str = "replies.payment";

    fn address(payment::Command::Pay(pay): &payment::Command) -> Address {
        Address { saga: pay.trip_id, step: "take_payment", direction: Direction::Execute }
    }

    async fn execute(&self, _: &mut PgConnection, commands: &[&payment::Command]) -> anyhow::Result<Vec<payment::Reply>> {
        let reply = |payment::Command::Pay(pay): &&payment::Command| {
            let (trip_id, cents) = (pay.trip_id, pay.cents);
            if cents > MOST_CENTS {
                return Refused { trip_id, reason: format!("{} has not got that much", pay.traveller) }.into();
            }
            Done { trip_id, reference: reference("payment", trip_id), cents }.into()
        };
        Ok(commands.iter().map(reply).collect())
    }
}

/// Who issues tickets. Nothing may refuse after the payment.
struct Ticket;

impl StepHandler for Ticket {
    type Command = ticket::Command;
    type Reply = ticket::Reply;
    const NAME: &'static str = "issue_tickets";
    const SOURCE: &'static str = "/trip/ticket";
    const REPLIES: &'static str = "replies.ticket";

    fn address(ticket::Command::Issue(issue): &ticket::Command) -> Address {
        Address { saga: issue.trip_id, step: "issue_ticket", direction: Direction::Execute }
    }

    async fn execute(&self, _: &mut PgConnection, commands: &[&ticket::Command]) -> anyhow::Result<Vec<ticket::Reply>> {
        let reply = |ticket::Command::Issue(issue): &&ticket::Command| {
            Done { trip_id: issue.trip_id, reference: reference("ticket", issue.trip_id), cents: 0 }.into()
        };
        Ok(commands.iter().map(reply).collect())
    }
}

fn reference(what: &str, trip: Uuid) -> String {
    format!("{what}-{}", trip.simple())
}
