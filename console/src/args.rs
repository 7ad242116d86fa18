//! `console`: the flags, and the run of it as a command.

use std::process::ExitCode;

use chassis::http::listen;
use reqwest::Url;
use saga::Exportable as _;
use saga_commands::broker;
use saga_commands::output::{tell, write_line};
use saga_commands::signal::stop_signal;
use saga_commands::system::announce;
use saga_commands::usage::number;
use saga_commands::{CommandLine, Target};
use tokio_util::sync::CancellationToken;

use crate::server::serve;
use crate::setup::{PORT, Setup};

/// Shown under `console --help`.
pub const EXAMPLES: &str = "It listens on 127.0.0.1 and acts in your name: with the token and the key of the broker that commands here would use. Where there is a
token, a browser is answered only after it was opened with the address that is printed, which holds a key made for this run. From another
machine: ssh -L 8090:127.0.0.1:8090 HOST.

Examples:
  waybill console
  waybill console --port 9090
  waybill console --order-url http://order.internal:8083";

/// The flags of `console`.
#[derive(Debug, clap::Args)]
pub struct Args<C: CommandLine> {
    /// Its port on 127.0.0.1.
    #[arg(long, env = "WAYBILL_CONSOLE_PORT", default_value_t = PORT, value_name = "PORT", value_parser = number::<u16, 1, 65535>)]
    port: u16,
    #[command(flatten)]
    target: Target<C>,
    #[command(flatten)]
    broker: broker::Target,
}

impl<C: CommandLine> Args<C> {
    /// Serves until it is interrupted. `places`: services that are there whether or not they answer on the broker.
    ///
    /// # Errors
    /// Where the port is taken, or an address cannot be read.
    pub async fn run(self, places: Vec<(String, Url)>) -> anyhow::Result<ExitCode> {
        let listener = listen(&format!("127.0.0.1:{}", self.port), "--port or WAYBILL_CONSOLE_PORT").await?;
        let url = self.target.url()?;
        announce(C::SERVICE.name, &[url.as_str()]);
        let broker = match self.broker.connect_as("waybill-console").await {
            Ok(broker) => Some(broker),
            Err(why) => {
                tell(&format!("Without the broker: {}", chassis::causes(&why)));
                None
            }
        };
        let own = (C::Saga::NAME.to_owned(), url);
        let setup = Setup::new(self.target.service()?, broker, places.into_iter().chain([own]).collect());
        write_line(&format!("console   {}", setup.url(self.port)))?;
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            let _ = stop_signal().await;
            tell("Stopping.");
            stop.cancel();
        });
        serve::<C>(listener, setup, shutdown).await?;
        Ok(ExitCode::SUCCESS)
    }
}
