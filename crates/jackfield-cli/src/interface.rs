//! `jackfield interface`.

use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, Result, bail};
use jackfield::protocol::export;
use jackfield::protocol::protobuf::{Lock, ProtoSchema};
use jackfield::{Interface, InterfaceId, PluginInfo};

use crate::Outcome;
use crate::args::{Export, Format};
use crate::output::Out;
use crate::report::Told;
use crate::session::Session;

pub(crate) fn export(session: &Session, wanted: &Export, out: &Out) -> Result<Outcome> {
    let info = session.plugin(&wanted.plugin)?.info();
    let id = choose(&info, wanted.interface.as_deref())?;
    let described = info.interfaces.iter().find(|offered| offered.id == *id);
    let Some(interface) = described.and_then(|offered| offered.description.as_deref()) else {
        return Err(Told {
            text: format!("plugin `{}` gives the name of `{id}`, and no description", info.name),
            hint: Some("a description can be added to `descriptions` in the plugin's manifest".to_owned()),
            source: None,
        }
        .into());
    };
    let text = match (wanted.format, wanted.lock.as_deref()) {
        (Format::Proto, Some(file)) => locked(interface, file)?,
        (_, Some(_)) => bail!("only `--format proto` has numbers of fields to lock"),
        (Format::Proto, None) => export::proto(interface)?,
        (Format::Wit, None) => export::wit(interface)?,
        (Format::JsonSchema, None) => export::json_schema(interface),
        (Format::Json, None) => format!("{}\n", serde_json::to_string_pretty(interface)?),
    };
    out.text(&text)?;
    Ok(Outcome::Done)
}

/// The interface as a `.proto` file under the lock in `file`, which is made or brought up to date first: no
/// number is seen by anybody that is not kept.
fn locked(interface: &Interface, file: &Path) -> Result<String> {
    let shown = file.display();
    let before = match fs::read_to_string(file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read the lock `{shown}`")),
    };
    let lock = match &before {
        Some(text) => Lock::parse(text).and_then(|lock| lock.update(interface)),
        None => Lock::new(interface),
    };
    let lock = lock.with_context(|| format!("the lock `{shown}` does not allow it"))?;
    let text = ProtoSchema::with_lock(interface, &lock)?.text();
    let after = lock.to_string();
    if before.as_ref() != Some(&after) {
        fs::write(file, after).with_context(|| format!("cannot write the lock `{shown}`"))?;
    }
    Ok(text)
}

/// The interface called `name`, or the only one.
fn choose<'a>(info: &'a PluginInfo, name: Option<&str>) -> Result<&'a InterfaceId> {
    let ids: Vec<_> = info.interfaces.iter().map(|offered| &offered.id).collect();
    pick(&ids, name).map_err(|what| {
        let offered: Vec<_> = ids.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("plugin `{}` {what}; it offers {}", info.name, offered.join(", "))
    })
}

fn pick<'a>(ids: &[&'a InterfaceId], name: Option<&str>) -> Result<&'a InterfaceId, String> {
    let is_called =
        |id: &InterfaceId, name: &str| id.name == name || id.unversioned() == name || id.to_string() == name;
    let called = |id: &&InterfaceId| name.is_none_or(|name| is_called(id, name));
    let candidates: Vec<_> = ids.iter().copied().filter(called).collect();
    let named = name.map_or_else(String::new, |name| format!(" `{name}`"));
    match candidates[..] {
        [id] => Ok(id),
        [] => Err(format!("has no interface{named}")),
        _ => Err(format!("has several interfaces{named}")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(offered: &[&str], name: Option<&str>, expected: Expect) {
        let offered: Vec<InterfaceId> = offered.iter().map(|id| id.parse().expect("an id")).collect();
        let picked = pick(&offered.iter().collect::<Vec<_>>(), name);
        expected.assert_eq(&picked.map_or_else(|what| what, ToString::to_string));
    }

    #[test]
    fn an_interface_is_named_as_far_as_is_needed() {
        check(&["a:b/c@1.0.0"], None, expect!["a:b/c@1.0.0"]);
        check(&["a:b/c@1.0.0", "a:b/d@1.0.0"], Some("d"), expect!["a:b/d@1.0.0"]);
        check(&["a:b/c@1.0.0", "x:y/c@1.0.0"], Some("x:y/c"), expect!["x:y/c@1.0.0"]);
        check(&["a:b/c@1.0.0", "a:b/c@2.0.0"], Some("a:b/c@2.0.0"), expect!["a:b/c@2.0.0"]);
        check(&["a:b/c@1.0.0", "a:b/c@2.0.0"], Some("c"), expect!["has several interfaces `c`"]);
        check(&["a:b/c@1.0.0", "a:b/d@1.0.0"], None, expect!["has several interfaces"]);
        check(&["a:b/c@1.0.0"], Some("d"), expect!["has no interface `d`"]);
    }
}
