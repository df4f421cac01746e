//! The files that the plugin may reach, by Landlock; and with it signals, abstract sockets and TCP.
//!
//! Landlock rules name what is allowed. Everything else, in every directory, is denied: to this process
//! and all it starts, for ever. It also keeps one such process from tracing another that is not shut in
//! with it, and with that from its memory, environment and descriptors under `/proc`.

use std::path::{Path, PathBuf};

use jackfield_protocol::runner::{Enforced, Profile};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use super::{Doing, Refusal};

/// What of the system every program reads: libraries, interpreters, time zones, certificates. Nothing with
/// secrets, and no configuration of services.
const SYSTEM: [&str; 22] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/bin",
    "/sbin",
    "/nix/store",
    "/gnu/store",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/locale.alias",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/ca-certificates",
    "/etc/java-17-openjdk",
];

/// What a program with a network reads beside it.
const NETWORK: [&str; 6] =
    ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services"];

/// What runtimes of languages ask the kernel: how many processors, how much memory, where their stack is.
const KERNEL: [&str; 11] = [
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/filesystems",
    "/proc/version",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/max_map_count",
    "/proc/sys/kernel",
    "/sys/devices/system/cpu",
    "/sys/kernel/mm/transparent_hugepage",
];

/// What a runtime asks that looks for its container.
const KERNEL_MORE: [&str; 3] = ["/sys/fs/cgroup", "/sys/devices/system/node", "/proc/loadavg"];

/// Devices that are written as well as read.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// The newest version whose rights are asked for. What an older kernel does not know it does not keep, and
/// the report says so.
const VERSION: ABI = ABI::V6;

pub(super) fn shut_in(doing: &mut Doing<'_>, program: &Path) -> Result<(), Refusal> {
    let profile = doing.orders.profile;
    match restrict(doing, program) {
        Ok(Kept::All(version)) => {
            doing.note(Enforced::by("fs", profile, "landlock").note(format!("version {version}")))?;
            doing.note(Enforced::by("signals", "own processes", "landlock"))?;
            doing.note(Enforced::by("abstract_sockets", "own processes", "landlock"))
        }
        Ok(Kept::Some(version)) => {
            doing.note(Enforced::by("fs", profile, "landlock").note(format!("version {version}")))?;
            let why = format!("the kernel has version {version} of Landlock, which does not know them yet");
            doing.note(Enforced::not("signals", "own processes", &why))?;
            doing.note(Enforced::not("abstract_sockets", "own processes", &why))
        }
        Err(why) => {
            doing.note(Enforced::not("fs", profile, &why))?;
            doing.note(Enforced::not("signals", "own processes", &why))?;
            doing.note(Enforced::not("abstract_sockets", "own processes", &why))
        }
    }
}

/// How much of it the kernel keeps, and its version.
enum Kept {
    All(String),
    Some(String),
}

fn restrict(doing: &Doing<'_>, program: &Path) -> Result<Kept, String> {
    let orders = doing.orders;
    let said = |error: RulesetError| error.to_string();
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(VERSION))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(VERSION)))
        .map_err(said)?;
    if !orders.net {
        ruleset = ruleset.handle_access(AccessNet::from_all(VERSION)).map_err(said)?;
    }
    let mut ruleset = ruleset.create().map_err(said)?;
    let read = AccessFs::from_read(VERSION);
    let look = AccessFs::ReadFile | AccessFs::ReadDir;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev | AccessFs::Truncate;
    let mut rules: Vec<(PathBuf, BitFlags<AccessFs>)> = Vec::new();
    let mut allow = |paths: &[&str], access: BitFlags<AccessFs>| {
        rules.extend(paths.iter().map(|path| (PathBuf::from(path), access)));
    };
    allow(&SYSTEM, read);
    allow(&KERNEL, look);
    allow(&DEVICES, device);
    if orders.profile != Profile::Strict {
        allow(&KERNEL_MORE, look);
    }
    if orders.net {
        allow(&NETWORK, look);
    }
    rules.push((program.to_owned(), read));
    rules.extend(orders.read.iter().map(|path| (path.clone(), read)));
    rules.extend(orders.write.iter().map(|path| (path.clone(), AccessFs::from_all(VERSION))));
    for (path, access) in rules {
        // What is not there needs no rule. A directory that is asked for was there when the manifest was read.
        let Ok(opened) = PathFd::new(&path) else { continue };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(VERSION) };
        ruleset = ruleset.add_rule(PathBeneath::new(opened, access)).map_err(said)?;
    }
    let status = ruleset.restrict_self().map_err(said)?;
    let version = match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            kernel_abi.map_or_else(|| effective_abi.to_string(), |version| version.to_string())
        }
        LandlockStatus::NotEnabled => return Err("Landlock is not enabled in this kernel".to_owned()),
        LandlockStatus::NotImplemented => return Err("this kernel has no Landlock".to_owned()),
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(Kept::All(version)),
        RulesetStatus::PartiallyEnforced => Ok(Kept::Some(version)),
        RulesetStatus::NotEnforced => Err("the kernel took none of the rules".to_owned()),
    }
}
