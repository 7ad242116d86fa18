//! What can be typed: the global flags, and one subcommand per noun. Each noun's module owns its flags and its `run`.

use std::process::ExitCode;

use chassis::settings::hidden;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;
use reqwest::Url;
use saga_commands::client::Gateway;
use saga_commands::examples;
use saga_commands::help;
use saga_commands::output::{Output, write_bytes};
use saga_commands::system::{self, http_url, or_usual};

use crate::addresses::{ADDRESSES, GATEWAY};
use crate::saga::Orders;
use crate::{
    audit, bench, certs, complete, context, contract, dead_letter, events, health, import, nats_conf, order, product, provision,
    services, token, up, user,
};

/// Order processing over NATS JetStream and Postgres, from the command line.
///
/// Data goes to stdout, progress and complaints to stderr.
/// Exit status: 0 done, 1 failed, 2 wrong usage; `order submit` and `order cancel` add 3 and 4, see their help.
#[derive(Debug, Parser)]
#[command(
    name = "waybill",
    version,
    max_term_width = 120,
    after_help = "Examples:
  ADA=$( waybill user create --email ada@example.com --name \"Ada Lovelace\" -o json | jq -r .id )
  KETTLE=$( waybill product create --name Kettle --price 19.99 --stock 100 -o json | jq -r .id )
  waybill order submit --user $ADA --item $KETTLE=2
  waybill order list --status rejected -o jsonl
  WAYBILL_GATEWAY=http://shop.internal:8080 waybill order list"
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Where ids and numbers come from, by the name that a value has in the usage.
const SOURCES: [(&str, &str); 5] = [
    ("<ORDER", "`waybill order list` shows orders with their ids"),
    ("<USER", "`waybill user list` shows users with their ids"),
    ("<PRODUCT", "`waybill product list` shows products with their ids"),
    ("<RESERVATION", "`waybill audit` names what is held for an order that nobody placed"),
    ("<SEQUENCE", "`waybill dead-letter list` shows dead letters with their sequences"),
];

/// The flags every command takes.
#[derive(Debug, clap::Args)]
pub struct Global {
    #[command(flatten)]
    any: saga_commands::Global,
    /// Where the gateway listens [default: what `waybill up` started here, else http://127.0.0.1:8080].
    #[arg(
        long,
        global = true,
        env = "WAYBILL_GATEWAY",
        hide_env_values = true,
        value_name = "URL",
        value_parser = hidden(http_url),
        help_heading = "Global options"
    )]
    gateway: Option<Url>,
    /// The context whose addresses and token count where nothing else was said; `none` for none [default: what `waybill context use` chose].
    #[arg(long, global = true, env = "WAYBILL_CONTEXT", value_name = "NAME", help_heading = "Global options")]
    context: Option<String>,
}

impl Global {
    fn gateway_url(&self) -> anyhow::Result<Url> {
        or_usual(&self.gateway, GATEWAY, "http://127.0.0.1:8080")
    }

    fn gateway(&self) -> anyhow::Result<Gateway> {
        Gateway::new(&self.gateway_url()?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything: broker, databases, streams and all services, until interrupted.
    #[command(after_help = up::EXAMPLES)]
    Up(Box<up::Args>),
    /// Prove that no order is lost or stuck and no stock oversold or leaked.
    #[command(after_help = audit::EXAMPLES)]
    Audit(audit::Args),
    /// Measure orders per second, latency and CPU per order, on a running system or one started for it.
    #[command(after_help = bench::EXAMPLES, after_long_help = bench::LONG_HELP)]
    Bench(Box<bench::Args>),
    /// Ask a service whether it is ready.
    #[command(after_help = health::EXAMPLES)]
    Health(health::Args),
    /// List every instance of every service that is there, with where it is and what it has answered.
    #[command(after_help = services::EXAMPLES)]
    Services(services::Args),
    /// Systems by name: their addresses, and the token that says who asks.
    #[command(subcommand, visible_alias = "contexts", after_help = context::EXAMPLES)]
    Context(context::Command),
    /// Print a token of the development issuer, which says who asks.
    #[command(after_help = token::EXAMPLES)]
    Token(token::Args),
    /// Create and update the streams and consumers.
    #[command(after_help = provision::EXAMPLES)]
    Provision(provision::Args),
    /// Make an authority, certificates and keys, so that broker, databases and services know each other.
    #[command(after_help = certs::EXAMPLES, after_long_help = [certs::LONG_HELP, certs::EXAMPLES].join("\n"))]
    Certs(certs::Args),
    /// Print who may do what on the broker, as a part of nats-server's configuration.
    #[command(after_help = nats_conf::EXAMPLES)]
    NatsConf,
    /// The people who order.
    #[command(subcommand, visible_alias = "users", after_help = user::EXAMPLES)]
    User(user::Command),
    /// What can be ordered, and how much of it there is.
    #[command(subcommand, visible_alias = "products", after_help = product::EXAMPLES)]
    Product(product::Command),
    /// Orders, and what became of them.
    #[command(subcommand, visible_alias = "orders", after_help = order::EXAMPLES)]
    Order(order::Command),
    /// Any order's story: read it, replay it, put it right.
    #[command(subcommand, visible_alias = "sagas", after_help = examples::<Orders>())]
    Saga(Box<saga_commands::Command<Orders>>),
    /// Serve the operators' pages: every order's story, what is stuck and why, and the button beside it.
    #[command(after_help = console::EXAMPLES)]
    Console(console::Args<Orders>),
    /// What could not be handled, and what to do about it.
    #[command(subcommand, visible_alias = "dead-letters", after_help = dead_letter::EXAMPLES)]
    DeadLetter(dead_letter::Command),
    /// What the services tell everyone.
    #[command(subcommand, after_help = events::EXAMPLES)]
    Events(events::Command),
    /// Load products, users and orders from files of shopping baskets.
    #[command(after_help = import::EXAMPLES, after_long_help = import::LONG_HELP)]
    Import(import::Args),
    /// Print what is served over HTTP as an OpenAPI 3.1 document.
    #[command(name = "openapi", after_help = contract::OPENAPI_EXAMPLES)]
    OpenApi(contract::OpenApi),
    /// Print what is said over NATS as an AsyncAPI 3.0 document.
    #[command(name = "asyncapi", after_help = contract::ASYNCAPI_EXAMPLES)]
    AsyncApi,
    /// Print the completion script of a shell: commands, flags, their values, and the ids of the system that runs.
    #[command(
        after_help = "The script asks this program, and this program asks the system: give it to each new shell, so that both are of one version.

Examples:
  source <( waybill completions bash )   # in ~/.bashrc
  source <( waybill completions zsh )   # in ~/.zshrc, after compinit
  waybill completions fish | source   # in ~/.config/fish/config.fish"
    )]
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
}

impl Cli {
    /// Reads the command line and the environment; where they are wrong, says so and ends the program.
    pub fn read() -> Self {
        let matches = Self::definition().try_get_matches().unwrap_or_else(|error| help::wrong(error, &SOURCES));
        system::said(&matches, &ADDRESSES);
        Self::from_arg_matches(&matches).unwrap_or_else(|error| help::wrong(error, &SOURCES))
    }

    /// The commands, with `-1` as a value wherever a value is expected: its flag says what is wrong with it.
    pub fn definition() -> clap::Command {
        help::with_values(Self::command())
    }

    /// Runs what was typed. The exit code tells outcomes that are not failures apart.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let out = Output::new(self.global.any.output);
        let global = &self.global;
        match self.command {
            Command::Up(args) => args.run().await,
            Command::Audit(args) => args.run(out).await,
            Command::Bench(args) => args.run(|| global.gateway_url(), out).await,
            Command::Health(args) => args.run(|| global.gateway_url(), out).await,
            Command::Services(args) => args.run(out).await,
            Command::Context(command) => command.run(out),
            Command::Token(args) => args.run(out),
            Command::Provision(args) => args.run(out).await,
            Command::Certs(args) => args.run(out),
            Command::NatsConf => nats_conf::run(),
            Command::User(command) => command.run(&global.gateway()?, out).await,
            Command::Product(command) => command.run(&global.gateway()?, out).await,
            Command::Order(command) => command.run(&global.gateway()?, out).await,
            Command::Saga(command) => command.run(out).await,
            Command::Console(args) => {
                // A gateway that does not look for others on the broker does not answer there either.
                let gateway = global.gateway_url().ok().map(|url| ("gateway".to_owned(), url));
                args.run(gateway.into_iter().collect()).await
            }
            Command::DeadLetter(command) => command.run(out).await,
            Command::Events(command) => command.run(out).await,
            Command::Import(args) => args.run(&global.gateway()?, out).await,
            Command::OpenApi(args) => args.run(),
            Command::AsyncApi => contract::asyncapi(),
            Command::Completions { shell } => completions(shell),
        }
    }
}

fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    write_bytes(&complete::script(shell)?)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a command line as a shell would split it, every variable an id, and nothing after a pipe or a redirection.
    fn words(line: &str) -> Vec<String> {
        let id = uuid::Uuid::nil().to_string();
        let line =
            ["$ADA", "$KETTLE", "$ORDER", "$RESERVATION"].iter().fold(line.to_owned(), |line, name| line.replace(name, &id));
        let words = shlex::split(&line).unwrap_or_else(|| panic!("`{line}` leaves a quote open"));
        let start = words.iter().position(|word| word == "waybill").unwrap_or_default();
        let end = words[start..]
            .iter()
            .position(|word| ["|", "||", "&&", ">", "#", "<", ")"].contains(&word.as_str()))
            .map_or(words.len(), |end| start + end);
        words[start..end].to_vec()
    }

    fn examples(command: &clap::Command) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        help.lines().filter(|line| line.contains("waybill ")).map(str::to_owned).collect()
    }

    fn each(command: &clap::Command, path: &str, seen: &mut impl FnMut(&clap::Command, &str)) {
        seen(command, path);
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            each(sub, &format!("{path} {}", sub.get_name()), seen);
        }
    }

    #[test]
    fn the_commands_of_the_runbook_parse() {
        let runbook = include_str!("../../docs/operations.md");
        let code = runbook.split("```").skip(1).step_by(2).flat_map(str::lines);
        let lines: Vec<&str> = code.filter(|line| line.starts_with("waybill ")).collect();
        assert!(lines.len() > 15, "{lines:?}");
        for line in lines {
            if let Err(error) = Cli::try_parse_from(words(line)) {
                panic!("`{line}` does not parse: {error}");
            }
        }
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_of_itself_and_they_parse() {
        let mut leaves = 0;
        each(&Cli::command(), "waybill", &mut |command, path| {
            let examples = examples(command);
            assert!(examples.iter().any(|line| line.contains(path)), "`{path}` has no example of itself in its help");
            for line in examples {
                assert!(line.chars().count() <= 98, "the example `{line}` of `{path}` is wrapped, and breaks where it is pasted");
                if let Err(error) = Cli::try_parse_from(words(&line)) {
                    panic!("the example `{line}` of `{path}` does not parse: {error}");
                }
            }
            leaves += usize::from(!command.has_subcommands());
        });
        assert!(leaves >= 28, "only {leaves} commands were looked at");
    }

    #[test]
    fn no_value_of_any_flag_panics_and_none_in_a_password_shows() {
        const EXTREMES: [&str; 17] = [
            "",
            " ",
            "0",
            "-1",
            "1",
            "255",
            "65536",
            "4294967296",
            "9223372036854775807",
            "18446744073709551615",
            "99999999999999999999999",
            "1e-300",
            "1e308",
            "1e309",
            "NaN",
            "inf",
            "http://u:hunter2@:x",
        ];
        let mut tried = 0;
        each(&Cli::command(), "waybill", &mut |command, path| {
            for argument in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
                let Some(flag) = argument.get_long() else { continue };
                for value in EXTREMES {
                    let line = path.split(' ').map(str::to_owned).chain([format!("--{flag}={value}")]);
                    // Ok or Err: a panic would end the test. What is still missing is wrong usage too.
                    let parsed = Cli::definition().try_get_matches_from(line);
                    let address = flag == "gateway" || flag.ends_with("-url") || flag == "broker";
                    if let (true, Err(error)) = (address, parsed) {
                        assert!(!error.to_string().contains("hunter2"), "{path} --{flag}: {error}");
                    }
                    tried += 1;
                }
            }
        });
        assert!(tried > 17 * 100, "only {tried} values were tried");
    }

    #[test]
    fn what_the_environment_says_of_an_address_shows_in_no_help() {
        each(&Cli::command(), "waybill", &mut |command, path| {
            for argument in command.get_arguments() {
                let name = argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let address = name.ends_with("_URL") || name == GATEWAY;
                assert!(!address || argument.is_hide_env_values_set(), "{path} --help shows the value of {name}");
            }
        });
    }

    #[test]
    fn a_wrong_example_would_be_noticed() {
        assert_eq!(words("  cat f | waybill x \"a b\" | head"), ["waybill", "x", "a b"]);
        assert!(Cli::try_parse_from(words("waybill user create --name \"Ada\"")).is_err());
    }
}
