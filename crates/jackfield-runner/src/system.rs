//! The few calls of the operating system that no library has in safe Rust.

#![cfg_attr(any(target_os = "linux", windows), expect(unsafe_code, reason = "calls the operating system itself"))]

use std::io;

#[cfg(target_os = "linux")]
fn checked(answer: i64) -> io::Result<()> {
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes every descriptor from 3 on. Must be the first thing a process does, before it opens any.
#[cfg(target_os = "linux")]
pub(crate) fn close_inherited() -> io::Result<()> {
    // By its number, since an old C library has no function for it.
    // SAFETY: `close_range` takes two descriptors and flags, no pointers. That no descriptor is closed
    // under somebody who owns it is the caller's promise: nothing has been opened yet.
    checked(unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) })
}

/// Where nothing closes many at once: a host that is written in Rust lets none be inherited.
#[cfg(not(target_os = "linux"))]
pub(crate) fn close_inherited() -> io::Result<()> {
    Ok(())
}

/// No program that this process executes gives it privileges, whatever bits its file has.
#[cfg(target_os = "linux")]
pub(crate) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: this `prctl` takes numbers, no pointers.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
}

/// No program that this process executes gives it this capability.
#[cfg(target_os = "linux")]
pub(crate) fn drop_from_bounding_set(capability: u32) -> io::Result<()> {
    // SAFETY: this `prctl` takes numbers, no pointers.
    checked(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) }.into())
}

/// Gives up every capability that this process has.
#[cfg(target_os = "linux")]
pub(crate) fn drop_capabilities() -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`.
    const VERSION: u32 = 0x2008_0522;
    // `__user_cap_header_struct`: version, and process, of which 0 is this one.
    let header = [VERSION, 0];
    // Two of `__user_cap_data_struct`: effective, permitted, inheritable, of 32 capabilities each.
    let none = [0_u32; 6];
    // SAFETY: `capset` reads a header and, for this version, two records: both arrays have their size and
    // layout, and live until it returns.
    checked(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) })
}

/// Limits of a job; none where there is nothing.
#[cfg(windows)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobLimits {
    /// Bytes that all its processes together have committed.
    pub(crate) memory: Option<usize>,
    /// Processes at a time, this one among them.
    pub(crate) processes: Option<u32>,
    /// User time of each process, in units of 100 ns.
    pub(crate) cpu_time: Option<i64>,
}

/// Puts this process, and so whatever it starts, into a job with these limits. It stays there: the job is never closed.
#[cfg(windows)]
pub(crate) fn enter_job(limits: JobLimits) -> io::Result<()> {
    use std::ptr;

    use windows_sys::Win32::System::JobObjects::{
        AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_ACTIVE_PROCESS, JOB_OBJECT_LIMIT_JOB_MEMORY,
        JOB_OBJECT_LIMIT_PROCESS_TIME, JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
        SetInformationJobObject,
    };
    use windows_sys::Win32::System::Threading::GetCurrentProcess;

    let mut wanted = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    let basic = &mut wanted.BasicLimitInformation;
    if let Some(memory) = limits.memory {
        basic.LimitFlags |= JOB_OBJECT_LIMIT_JOB_MEMORY;
        wanted.JobMemoryLimit = memory;
    }
    let basic = &mut wanted.BasicLimitInformation;
    if let Some(processes) = limits.processes {
        basic.LimitFlags |= JOB_OBJECT_LIMIT_ACTIVE_PROCESS;
        basic.ActiveProcessLimit = processes;
    }
    if let Some(time) = limits.cpu_time {
        basic.LimitFlags |= JOB_OBJECT_LIMIT_PROCESS_TIME;
        basic.PerProcessUserTimeLimit = time;
    }
    let done = |answer: i32| if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: both pointers may be null: no attributes, and no name.
    let job = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
    if job.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the class is that of the record, whose size is given, and which lives until the call returns.
    done(unsafe {
        SetInformationJobObject(
            job,
            JobObjectExtendedLimitInformation,
            (&raw const wanted).cast(),
            size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32,
        )
    })?;
    // SAFETY: takes nothing, and gives a number that stands for this process and needs not be closed.
    let this = unsafe { GetCurrentProcess() };
    // SAFETY: both are handles that are open: the job was made above and is never closed.
    done(unsafe { AssignProcessToJobObject(job, this) })
}
