//! `jackfield logs`: what plugins of a running host log and print.

use anyhow::Result;
use jackfield::{LogLevel, LogLine, rfc3339};
use serde::Deserialize;
use serde_json::Value;

use crate::Outcome;
use crate::args;
use crate::output::{self, Out, Paint, plain};
use crate::running::with_query;
use crate::session::{Where, asynchronously};

/// Lines from before that following begins with.
const FOLLOW_TAIL: usize = 10;

pub(crate) fn run(place: &Where, logs: &args::Logs, out: &Out) -> Result<Outcome> {
    let running = place.must_run("logs")?;
    let mut query: Vec<_> = logs.plugin.iter().map(|plugin| ("plugin", plugin.clone())).collect();
    if logs.follow {
        query.push(("follow", "true".to_owned()));
    }
    let tail = logs.tail.or(logs.follow.then_some(FOLLOW_TAIL));
    query.extend(tail.map(|tail| ("tail", tail.to_string())));
    asynchronously(async {
        let mut lines = running.follow(&with_query("/v1/logs", &query)).await?;
        while let Some(line) = lines.next().await? {
            match out.json {
                true => out.line(&serde_json::from_slice::<Value>(&line)?)?,
                false => match serde_json::from_slice(&line)? {
                    Line::Said(line) => out.text(&text(&line, out.paint))?,
                    Line::Lost { lost } => output::say(&format!("{lost} lines were lost: this reader is too slow")),
                },
            }
        }
        Ok(Outcome::Done)
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Lost { lost: u64 },
    Said(LogLine),
}

fn text(line: &LogLine, paint: Paint) -> String {
    let level = format!("{:5}", line.level.as_str());
    let level = if line.level <= LogLevel::Warn { paint.red(&level) } else { level };
    let (at, plugin) = (rfc3339::text(line.at), paint.bold(&plain(&line.plugin)));
    format!("{at} {level} {plugin}: {}\n", plain(&line.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_with_its_time_level_and_plugin() {
        let json = r#"{"number":7,"at":"2026-11-29T20:59:51.123456Z","plugin":"p","generation":2,"level":"warn","text":"a\u001b[2J"}"#;
        let Ok(Line::Said(line)) = serde_json::from_str(json) else { panic!("a line") };
        assert_eq!(text(&line, Paint::PLAIN), "2026-11-29T20:59:51.123456Z warn  p: a\\u{1b}[2J\n");
        assert!(matches!(serde_json::from_str(r#"{"lost":3}"#), Ok(Line::Lost { lost: 3 })));
    }
}
