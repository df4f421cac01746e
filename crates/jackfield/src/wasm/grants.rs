//! What a guest is given of its host: what the manifest grants, and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::WasmError;
use super::guest::Watch;
use super::output::Lines;
use crate::mechanism::Spec;

/// WASI with the directories, variables and arguments of the manifest. What the guest prints goes to the log.
pub(super) fn wasi(spec: &Spec, watch: &Arc<Watch>) -> Result<WasiCtxBuilder, WasmError> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(Lines::to(watch)).stderr(Lines::to(watch));
    wasi.arg(&spec.name).args(&spec.args).envs(&spec.env);
    let grants = &spec.wasm.grants;
    let directories = grants.read.iter().map(|(guest, host)| (guest, host, FsPerms::ReadOnly));
    let writable = grants.write.iter().map(|(guest, host)| (guest, host, FsPerms::ReadWrite));
    for (guest, host, perms) in directories.chain(writable) {
        wasi.preopened_dir(host, guest, perms)
            .map_err(|error| WasmError::Grant { path: host.clone(), what: error.root_cause().to_string() })?;
    }
    // Sockets are by address and grants by name: a name would have to be resolved again for each address,
    // so sockets stay closed, and HTTP is what `net.hosts` opens.
    wasi.allow_ip_name_lookup(false).allow_tcp(false).allow_udp(false);
    wasi.socket_addr_check(|_: SocketAddr, _| Box::pin(async { false }));
    Ok(wasi)
}
