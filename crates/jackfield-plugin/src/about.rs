//! What a plugin says of itself: the answer to `jackfield/hello`, wherever it is asked for.

use jackfield_protocol::message::{HelloAnswer, Offer, PluginName};
use jackfield_protocol::{Encoding, Interface, PROTOCOL};

use crate::instance::Export;

/// Who the plugin is, what it promises and what it offers.
pub(crate) fn about(export: &Export, described: &[&'static Interface], features: &[&str]) -> HelloAnswer {
    HelloAnswer {
        protocol: PROTOCOL,
        plugin: PluginName { name: export.name.to_owned(), version: export.version.to_owned() },
        encodings: vec![Encoding::Json, Encoding::Binary],
        features: features.iter().map(|&feature| feature.to_owned()).collect(),
        capabilities: export.capabilities.iter().filter_map(|capability| capability.parse().ok()).collect(),
        interfaces: described.iter().map(|&interface| Offer::Described(Box::new(interface.clone()))).collect(),
    }
}
