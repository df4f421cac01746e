//! What can be typed. Each flag is declared here once; its documentation is its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jackfield::{Address, Exposure, Signatures, TrustSpec};

use crate::output::Color;
use crate::session::Where;

/// Lists, calls and inspects plugins, and serves them to others.
///
/// Data is written to stdout, everything else to stderr. The exit code is 0 when it was done, 1 when
/// the plugin answered with its own error, 2 when it could not be done.
#[derive(Debug, Parser)]
#[command(name = "jackfield", version, max_term_width = 100)]
pub(crate) struct Args {
    /// A directory with plugins; may be repeated, the first with a plugin of some name has it.
    /// Default: the directories in the variable JACKFIELD_PLUGINS, written like PATH.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) plugins: Vec<PathBuf>,

    /// Asks a host that runs, `unix:PATH` or `tcp:HOST:PORT`, in place of loading plugins. Default: the variable
    /// JACKFIELD_HOST, unless there is `--plugins`.
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub(crate) host: Option<Address>,

    /// A file with the token of a host that listens on TCP, which nobody else may read: of `run`, what is asked
    /// for; with `--host`, what is presented.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,

    /// Where a host keeps quarantine, crash reports and what is disabled. `crashes` and `quarantine` read it when
    /// no host runs.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) state_dir: Option<PathBuf>,

    /// Loads only plugins that are as `plugins.lock` of their directory says; `jackfield lock` writes it.
    #[arg(long, global = true)]
    pub(crate) locked: bool,

    /// What a plugin needs a signature by minisign for, beside its entry: `off`, `warn` or `require`. Default: off.
    #[arg(long, value_name = "WHEN", global = true)]
    pub(crate) signatures: Option<Signatures>,

    /// A file with the public keys whose signatures count, one a line.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) trusted_keys: Option<PathBuf>,

    /// Loads plugins all the same whose files others can write to (`writable`), or where a symbolic link leads out
    /// of the plugin directory (`links`). May be repeated.
    #[arg(long, value_name = "WHAT", global = true)]
    pub(crate) allow: Vec<Exposure>,

    /// Writes data as JSON, on one line.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// When to use colour. `auto` is: on a terminal, unless the variable NO_COLOR is set.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, global = true)]
    pub(crate) color: Color,

    /// Shows what plugins log: their warnings are always shown, `-v` adds what they report, `-vv` all.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Args {
    /// Where plugins are looked for.
    pub(crate) fn place(&self) -> Where {
        Where {
            plugins: self.plugins.clone(),
            host: self.host.clone(),
            token_file: self.token_file.clone(),
            trust: self.trust(),
        }
    }

    fn trust(&self) -> TrustSpec {
        let mut trust = TrustSpec::default();
        trust.locked = self.locked.then_some(true);
        trust.signatures = self.signatures;
        trust.trusted_keys = self.trusted_keys.clone();
        trust.allow = self.allow.clone();
        trust
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    List(List),
    Call(Call),
    Inspect(Inspect),
    Lock(Lock),
    /// Works with the interfaces of a plugin.
    #[command(subcommand)]
    Interface(InterfaceVerb),
    Run(Run),
    /// Works with the configuration of `run`.
    #[command(subcommand)]
    Config(ConfigVerb),
    Reload(Reload),
    Disable(Disable),
    Enable(Enable),
    Rescan(Rescan),
    Quarantine(Quarantine),
    Crashes(Crashes),
    Logs(Logs),
    Health(Health),
    Events(Events),
    #[cfg(feature = "wasm")]
    Pack(Pack),
    Completions(Completions),
}

/// Lists the plugins, what was refused and why, and what is shadowed.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Exits with 2 when something was refused.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Calls a function and writes its answer as JSON.
///
/// When the plugin answers with its own error, that error is written, and the exit code is 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Call {
    /// Name of the plugin.
    pub(crate) plugin: String,

    /// The function: `greet`, `greeter.greet` or `demo:greeter/greeter.greet`; or the method of a service,
    /// `proto.KV/Get`.
    pub(crate) function: String,

    /// The arguments as JSON, an object by name or an array by position; `-` reads them from stdin. Of a
    /// method that takes a stream, any number of messages, from stdin one a line; one that answers with a
    /// stream has its messages written one a line.
    #[arg(value_name = "ARGS", default_value = "{}", hide_default_value = true)]
    pub(crate) arguments: String,

    /// Makes the call N times, one after the other, and writes how long the calls took and how many
    /// were made in a second, in place of the answer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) repeat: Option<u32>,

    /// Time for each call, as in `250ms`, `5s`, `2m`. Default: the plugin's `call_timeout`.
    #[arg(long, value_name = "TIME", value_parser = jackfield::parse_duration)]
    pub(crate) timeout: Option<Duration>,
}

/// Shows everything that is known of a plugin.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// Name of the plugin.
    pub(crate) plugin: String,
}

/// Accepts the plugins in a directory as they are now: writes `plugins.lock` beside them, with the hashes of each
/// one's entry and manifest, and shows what changed.
///
/// Starts nothing. `--locked` then refuses what differs, was added, or is missing. What cannot be a plugin is not
/// locked, and the exit code is 2.
#[derive(Debug, clap::Args)]
pub(crate) struct Lock {
    /// The plugin directories. Default: those of `--plugins`.
    #[arg(value_name = "DIR")]
    pub(crate) dirs: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum InterfaceVerb {
    Export(Export),
}

/// Writes an interface in a form that others read.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Name of the plugin.
    pub(crate) plugin: String,

    /// The interface: `greeter`, `demo:greeter/greeter` or `demo:greeter/greeter@1.0.0`. May be left
    /// out when the plugin has only one.
    pub(crate) interface: Option<String>,

    /// The form.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,

    /// Of `--format proto`: a file that keeps the number of each field, so that what is written by one version
    /// of the interface is read by the next. It is made, or brought up to date, before anything is written; keep
    /// it in version control. A change that would give a number another meaning is refused.
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: Option<PathBuf>,
}

/// A form of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// WIT, the text form of the component model.
    #[default]
    Wit,
    /// JSON Schema 2020-12 of the parameters, results and errors.
    JsonSchema,
    /// The description itself, as plugins report it.
    Json,
    /// A `.proto` file with the service that a gRPC plugin offers.
    Proto,
}

/// Runs a host as a service: loads plugins, keeps them running, and lets others call them.
///
/// SIGTERM and SIGINT end it in order: no new requests, those under way end, the plugins are stopped; a second
/// one ends it at once. SIGHUP looks through the plugin directories again. What is typed goes before what the
/// configuration says.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The configuration. Default: `jackfield.toml`, if it is here.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Where it takes requests: `unix:PATH`, or `tcp:HOST:PORT`, which needs `--token-file`. May be repeated.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<Address>,

    /// Loads a plugin anew when its file changes.
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    Check(Check),
}

/// Checks a configuration, and shows what it means with all defaults.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The configuration.
    #[arg(default_value = "jackfield.toml")]
    pub(crate) file: PathBuf,
}

/// Replaces a plugin of a running host by what its file is now, without losing a call.
///
/// If the new one does not start, or is not well, the old one stays, the step that failed is named, and the exit
/// code is 2.
#[derive(Debug, clap::Args)]
pub(crate) struct Reload {
    /// Name of the plugin.
    pub(crate) plugin: String,
}

/// Stops a plugin of a running host, until it is enabled. Kept over restarts of a host with a state directory.
#[derive(Debug, clap::Args)]
pub(crate) struct Disable {
    /// Name of the plugin.
    pub(crate) plugin: String,
}

/// Starts a plugin of a running host that was disabled, stopped or failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Enable {
    /// Name of the plugin.
    pub(crate) plugin: String,
}

/// Has a running host look through its plugin directories again: new plugins are loaded, changed ones reloaded,
/// removed ones stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct Rescan {}

/// Lists what was set aside for failing, with the evidence, or lets it back.
#[derive(Debug, clap::Args)]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    pub(crate) verb: Option<QuarantineVerb>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineVerb {
    /// Lists what was set aside. So does `quarantine` alone.
    List,
    /// Lets a plugin back, and starts it in a running host.
    Lift {
        /// Name of the plugin.
        plugin: String,
    },
}

/// Shows how plugins died, the last ones at the end.
#[derive(Debug, clap::Args)]
pub(crate) struct Crashes {
    /// Only of this plugin.
    pub(crate) plugin: Option<String>,
}

/// Shows what plugins of a running host log and print.
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// Only of this plugin.
    pub(crate) plugin: Option<String>,

    /// Goes on with each line as it comes.
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Begins with so many of the last lines. Default: all that are kept, 200 of each plugin; with `-f`, 10.
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<usize>,
}

/// Says whether every plugin of a running host is well. If not, the exit code is 2.
#[derive(Debug, clap::Args)]
pub(crate) struct Health {}

/// Shows what happens to plugins of a running host, as it happens.
#[derive(Debug, clap::Args)]
pub(crate) struct Events {}

#[cfg(feature = "wasm")]
/// Makes something else of a plugin that was built for wasm32-unknown-unknown.
///
/// The module must have been made with the SDK for Rust. It is run, without any access, to ask it what it
/// is.
#[derive(Debug, clap::Args)]
pub(crate) struct Pack {
    /// Makes a WebAssembly component, which exports the plugin's interfaces with their types. Its log goes
    /// to stderr, so it imports `wasi:cli/stderr` and `wasi:io/streams`, and nothing else.
    #[arg(long, required = true)]
    pub(crate) component: bool,

    /// The module.
    #[arg(value_name = "MODULE")]
    pub(crate) input: PathBuf,

    /// Where the component is written. Default: beside the module, `NAME.component.wasm`.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Writes a script that completes this command in a shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use expect_test::{Expect, expect};

    use super::*;

    fn check(line: &str, expected: Expect) {
        let words = std::iter::once("jackfield").chain(line.split_whitespace());
        expected.assert_eq(&match Args::try_parse_from(words) {
            Ok(args) => format!("{:?} {:?}", args.plugins, args.verb),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn the_declarations_agree_with_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_global_flag_may_stand_before_or_after_the_verb() {
        check("--plugins a --plugins b list --strict", expect![[r#"["a", "b"] List(List { strict: true })"#]]);
        check("list --plugins a", expect![[r#"["a"] List(List { strict: false })"#]]);
    }

    #[test]
    fn a_call_has_arguments_or_none() {
        check(
            "call english greet --repeat 2",
            expect![[
                r#"[] Call(Call { plugin: "english", function: "greet", arguments: "{}", repeat: Some(2), timeout: None })"#
            ]],
        );
        check(
            "call english greet",
            expect![[
                r#"[] Call(Call { plugin: "english", function: "greet", arguments: "{}", repeat: None, timeout: None })"#
            ]],
        );
        check(
            "call english greet - --repeat 10 --timeout 5s",
            expect![[
                r#"[] Call(Call { plugin: "english", function: "greet", arguments: "-", repeat: Some(10), timeout: Some(5s) })"#
            ]],
        );
        check(
            "call english greet {} --timeout 5",
            expect![[r#"
            error: invalid value '5' for '--timeout <TIME>': "5" is not a duration: a whole number and `ms`, `s`, `m` or `h`, as in "250ms"

            For more information, try '--help'.
        "#]],
        );
        check(
            "call english greet {} --repeat 0",
            expect![[r#"
            error: invalid value '0' for '--repeat <N>': 0 is not in 1..=10000000

            For more information, try '--help'.
        "#]],
        );
    }

    #[test]
    fn a_host_is_named_by_its_address_and_a_quarantine_listed_unless_said_otherwise() {
        check("--host unix:/run/x.sock reload english", expect![[r#"[] Reload(Reload { plugin: "english" })"#]]);
        check("quarantine", expect!["[] Quarantine(Quarantine { verb: None })"]);
        check(
            "quarantine lift english --host tcp:localhost:7000",
            expect![[r#"[] Quarantine(Quarantine { verb: Some(Lift { plugin: "english" }) })"#]],
        );
        check(
            "list --host /run/x.sock",
            expect![[r#"
            error: invalid value '/run/x.sock' for '--host <ADDRESS>': "/run/x.sock" is no address: `unix:PATH` or `tcp:HOST:PORT`

            For more information, try '--help'.
        "#]],
        );
    }

    #[cfg(feature = "wasm")]
    #[test]
    fn what_is_made_of_a_module_must_be_said() {
        check(
            "pack --component a.wasm -o b.wasm",
            expect![[r#"[] Pack(Pack { component: true, input: "a.wasm", output: Some("b.wasm") })"#]],
        );
        check(
            "pack a.wasm",
            expect![[r#"
            error: the following required arguments were not provided:
              --component

            Usage: jackfield pack --component <MODULE>

            For more information, try '--help'.
        "#]],
        );
    }

    #[test]
    fn an_interface_is_exported_as_wit_unless_said_otherwise() {
        check(
            "interface export english",
            expect![[
                r#"[] Interface(Export(Export { plugin: "english", interface: None, format: Wit, lock: None }))"#
            ]],
        );
        check(
            "interface export english greeter --format json-schema",
            expect![[
                r#"[] Interface(Export(Export { plugin: "english", interface: Some("greeter"), format: JsonSchema, lock: None }))"#
            ]],
        );
        check(
            "interface export english --format xml",
            expect![[r#"
            error: invalid value 'xml' for '--format <FORMAT>'
              [possible values: wit, json-schema, json, proto]

            For more information, try '--help'.
        "#]],
        );
    }
}
