//! `jackfield interface`.

use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, Result, bail};
use jackfield::protocol::export;
use jackfield::protocol::protobuf::{Lock, ProtoSchema};
use jackfield::{Interface, InterfaceId};

use crate::Outcome;
use crate::args::{Export, Format};
use crate::fault::Kind;
use crate::inspect::{InterfaceView, View};
use crate::output::Out;
use crate::report::Told;
use crate::session::Session;

pub(crate) async fn export(session: &Session, wanted: &Export, out: &Out) -> Result<Outcome> {
    let view = session.inspect(&wanted.plugin).await?;
    let offered = choose(&view, wanted.interface.as_deref())?;
    let Some(interface) = &offered.description else {
        let text = format!("plugin `{}` gives the name of `{}`, and no description", view.name, offered.id);
        let hint = "a description can be added to `descriptions` in the plugin's manifest";
        return Err(Told::new(Kind::Internal, text).hint(hint).into());
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
fn choose<'a>(view: &'a View, name: Option<&str>) -> Result<&'a InterfaceView> {
    let ids: Vec<_> = view.interfaces.iter().map(|offered| &offered.id).collect();
    let chosen = pick(&ids, name).map_err(|what| {
        let offered: Vec<_> = ids.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("plugin `{}` {what}; it offers {}", view.name, offered.join(", "))
    })?;
    Ok(&view.interfaces[chosen])
}

/// Which of `ids` is called `name`, or the only one, by its position.
fn pick(ids: &[&InterfaceId], name: Option<&str>) -> Result<usize, String> {
    let is_called =
        |id: &InterfaceId, name: &str| id.name == name || id.unversioned() == name || id.to_string() == name;
    let called = |id: &InterfaceId| name.is_none_or(|name| is_called(id, name));
    let candidates: Vec<_> = (0..ids.len()).filter(|at| called(ids[*at])).collect();
    let named = name.map_or_else(String::new, |name| format!(" `{name}`"));
    match candidates[..] {
        [at] => Ok(at),
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
        expected.assert_eq(&picked.map_or_else(|what| what, |at| offered[at].to_string()));
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
