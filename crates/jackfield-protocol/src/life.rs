//! The interface `jackfield:plugin/life`: what a host asks a plugin about its own life.
//!
//! A plugin offers it like any interface of its own, and so by every mechanism, without a message of its
//! own in any. It stands here, and not in the SDK, since the host calls it and does not know the SDK.
//!
//! The documentation of the trait is part of its description, and so of what each plugin with it says at
//! its start: it is short, and the example is in `jackfield-plugin`.
//!
//! Not here: when a host asks, and what it makes of the answers (`jackfield`).

use jackfield_macros::{Type, interface};

/// What the macros take for the SDK: this crate, which has all that they refer to.
mod sdk {
    pub(super) use crate as protocol;
}

/// What a host asks a plugin about its life. By default it is well, and has no state.
#[interface("jackfield:plugin/life@1.0.0", crate = crate::life::sdk)]
pub trait Life {
    /// Whether it can serve; the text says why not. Asked before a generation's first call, and beside calls.
    #[jackfield(idempotent)]
    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    /// What the next generation goes on with; nothing if there is no state. A copy, for this generation may
    /// have to go on.
    #[jackfield(idempotent)]
    fn export_state(&self) -> Result<Option<StateSnapshot>, String> {
        Ok(None)
    }

    /// Goes on with what an earlier generation exported. An error leaves that one in its place.
    #[jackfield(idempotent)]
    fn import_state(&self, state: StateSnapshot) -> Result<(), String> {
        Err(format!("this plugin takes over no state; it was given one of schema {}", state.schema_version))
    }
}

/// What one generation of a plugin hands to the next.
#[derive(Clone, Debug, PartialEq, Eq, Type)]
#[jackfield(crate = crate::life::sdk)]
pub struct StateSnapshot {
    /// Which form `data` has. The plugin's own count: hosts only pass it on, and show it.
    pub schema_version: u32,
    /// The state, in whatever form the plugin gives it.
    pub data: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::call::Described;

    /// Plugins that were built long ago offer it in this form.
    #[test]
    fn the_interface_is_what_was_published() {
        let life = <dyn Life>::interface().expect("a description");
        expect![[
            r#"{"interface":"jackfield:plugin/life@1.0.0","types":{"state-snapshot":{"record":[{"name":"schema-version","type":"u32"},{"name":"data","type":"list<u8>"}]}},"functions":[{"name":"health","result":"result<_, string>"},{"name":"export-state","result":"result<option<state-snapshot>, string>"},{"name":"import-state","params":[{"name":"state","type":"state-snapshot"}],"result":"result<_, string>"}]}"#
        ]]
        .assert_eq(&life.canonical());
        expect!["f909c40e7274a2df4d96a97669d77bdf594741d0c729874f0846d880f1b7ef50"]
            .assert_eq(&life.fingerprint().to_string());
        assert!(life.functions.iter().all(|function| function.idempotent));
    }

    #[test]
    fn a_plugin_that_implements_nothing_of_it_is_well_and_has_no_state() {
        struct Plain;
        impl Life for Plain {}
        assert_eq!(Plain.health(), Ok(()));
        assert_eq!(Plain.export_state(), Ok(None));
        let refused = Plain.import_state(StateSnapshot { schema_version: 3, data: Vec::new() });
        assert_eq!(refused, Err("this plugin takes over no state; it was given one of schema 3".to_owned()));
    }
}
