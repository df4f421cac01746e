//! The system calls that the plugin may not make, by seccomp. They fail with `EPERM`; the plugin runs on.
//!
//! A list of what is denied and not of what is allowed: a list of the latter breaks with the next version
//! of a language's runtime, and breaks its users' plugins, not the attacker. What is denied is of no use to
//! a plugin, and of much to somebody who wants out.

use std::collections::BTreeMap;

use jackfield_protocol::runner::{Enforced, Orders, Profile};
use libc::{c_long, *};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use super::{Doing, Refusal};

/// Denied under every profile but `none`.
const DENIED: &[c_long] = &[
    // Into other processes.
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_kcmp,
    SYS_pidfd_getfd,
    SYS_perf_event_open,
    // Out of the namespaces, into new ones, and what is mounted there.
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_umount2,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_pivot_root,
    SYS_chroot,
    // Files by number, which no rule about paths sees.
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    // Code in the kernel, and what has had most of its holes.
    SYS_bpf,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    // The machine.
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_syslog,
    SYS_quotactl,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_vhangup,
    // Out of the process group, which ends with the plugin.
    SYS_setsid,
    SYS_setpgid,
    #[cfg(target_arch = "x86_64")]
    SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    SYS_modify_ldt,
];

/// Denied under `strict` beside them.
const DENIED_STRICTLY: &[c_long] = &[
    SYS_execveat,
    SYS_personality,
    SYS_fanotify_init,
    SYS_fanotify_mark,
    SYS_inotify_add_watch,
    SYS_mknodat,
    SYS_shmget,
    SYS_semget,
    SYS_msgget,
    SYS_mq_open,
    SYS_setpriority,
    SYS_ioprio_set,
    SYS_mlockall,
    SYS_tkill,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
];

/// New namespaces, by way of `clone`.
const NAMESPACES: u64 =
    (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) as u64;

/// The kernel numbers the calls of x32, which are those of x86-64 again, from here. No list of numbers has
/// them.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// Installs what the orders want of it. `counted`: a cgroup counts the processes.
pub(super) fn filter(doing: &mut Doing<'_>, counted: bool) -> Result<(), Refusal> {
    let orders = doing.orders;
    let alone = orders.limits.processes == Some(1) && !counted || orders.profile == Profile::Strict;
    if orders.profile == Profile::None && !alone {
        return Ok(());
    }
    let installed = install(orders, alone);
    let mut note = |limit: &str, value: &dyn std::fmt::Display| {
        let enforced = match &installed {
            Ok(()) => Enforced::by(limit, value, "seccomp"),
            Err(why) => Enforced::not(limit, value, why),
        };
        doing.note(enforced)
    };
    if alone {
        note("processes", &1)?;
    }
    if orders.profile != Profile::None {
        note("system_calls", &orders.profile)?;
        match orders.net {
            true => doing.note(Enforced::by("net", "all", "grant"))?,
            false => note("net", &"none")?,
        }
    }
    Ok(())
}

fn install(orders: &Orders, alone: bool) -> Result<(), String> {
    let said = |error: seccompiler::BackendError| error.to_string();
    // A filter may be changed by who can gain privileges; `privileges` has seen to it where there is a profile.
    crate::system::no_new_privileges().map_err(|error| error.to_string())?;
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(said)?;
    let rules = rules(orders, alone).map_err(said)?;
    let denied = SeccompAction::Errno(EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, architecture).map_err(said)?;
    let program: BpfProgram = filter.try_into().map_err(said)?;
    let program = without_x32(program);
    // Flags of `clone3` lie in memory, which a filter cannot read. A C library that is told that there is no such
    // call uses `clone`. A filter has one answer for what it lists, so this is a second one.
    let absent = BTreeMap::from([(SYS_clone3, Vec::new())]);
    let absent = SeccompFilter::new(absent, SeccompAction::Allow, SeccompAction::Errno(ENOSYS as u32), architecture);
    let absent: BpfProgram = absent.and_then(TryInto::try_into).map_err(said)?;
    apply_filter(&absent).map_err(|error| error.to_string())?;
    apply_filter(&program).map_err(|error| error.to_string())
}

fn rules(orders: &Orders, alone: bool) -> Result<BTreeMap<c_long, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();
    let when = |argument: u8, operator: SeccompCmpOp, value: u64| {
        SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?])
    };
    let is_strict = orders.profile == Profile::Strict;
    if orders.profile != Profile::None {
        rules.extend(DENIED.iter().map(|call| (*call, Vec::new())));
        let mut clone = Vec::new();
        for bit in (0..64).map(|bit| 1_u64 << bit).filter(|bit| NAMESPACES & bit != 0) {
            clone.push(when(0, SeccompCmpOp::MaskedEq(bit), bit)?);
        }
        rules.insert(SYS_clone, clone);
        // Characters put into the terminal that the host was started from.
        rules.insert(SYS_ioctl, vec![when(1, SeccompCmpOp::Eq, TIOCSTI)?, when(1, SeccompCmpOp::Eq, TIOCLINUX)?]);
    }
    if is_strict {
        rules.extend(DENIED_STRICTLY.iter().map(|call| (*call, Vec::new())));
        #[cfg(target_arch = "x86_64")]
        rules.insert(SYS_mknod, Vec::new());
    }
    if alone {
        // A thread is made by `clone`, too, and says so.
        rules.entry(SYS_clone).or_default().push(when(0, SeccompCmpOp::MaskedEq(CLONE_THREAD as u64), 0)?);
        #[cfg(target_arch = "x86_64")]
        rules.extend([(SYS_fork, Vec::new()), (SYS_vfork, Vec::new())]);
    }
    if orders.profile != Profile::None && !orders.net {
        // Landlock knows TCP and no UDP; here no address family but that of Unix sockets is left.
        let unix = AF_UNIX as u64;
        let socket =
            if is_strict && !orders.unix_sockets { Vec::new() } else { vec![when(0, SeccompCmpOp::Ne, unix)?] };
        rules.insert(SYS_socket, socket);
        rules.insert(SYS_socketpair, vec![when(0, SeccompCmpOp::Ne, unix)?]);
    }
    Ok(rules)
}

/// The program with a first instruction that denies x32.
#[cfg(target_arch = "x86_64")]
fn without_x32(program: BpfProgram) -> BpfProgram {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const RETURN_ERROR: u32 = 0x0005_0000;
    let mut checked = vec![
        seccompiler::sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 },
        seccompiler::sock_filter { code: JUMP_IF_GREATER_OR_EQUAL, jt: 0, jf: 1, k: X32 },
        seccompiler::sock_filter { code: RETURN, jt: 0, jf: 0, k: RETURN_ERROR | EPERM as u32 },
    ];
    checked.extend(program);
    checked
}

#[cfg(not(target_arch = "x86_64"))]
fn without_x32(program: BpfProgram) -> BpfProgram {
    program
}
