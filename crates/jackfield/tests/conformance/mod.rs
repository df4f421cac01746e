//! What holds for every mechanism and encoding: the suite that a new mechanism has to pass.
//!
//! Not here: what holds where one instance makes several calls at once (`beside.rs`), what only one of them
//! promises (`lifecycle_*`, `native_crash.rs`) and what is refused (`bad_input_*.rs`).

#[path = "../../../../fixtures/api/arbitrary.rs"]
mod arbitrary;

use std::collections::BTreeMap;

use arbitrary::{animals, same};
use expect_test::{Expect, expect};
use fixtures_api::misbehave::Misbehave;
use fixtures_api::zoo::{Address, Animal, Color, Counter, Grams, Shape, Skills, Zoo};
use jackfield::{CallError, Client, Comparison, Encoding, Limits, MechanismKind, Status};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::suite::{Mechanism, Run, ended, in_time, misbehave, says};

/// Runs each function in both encodings on the mechanism of the test.
macro_rules! each_mechanism {
    ($(async fn $name:ident($run:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn case($run: Run) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn json() {
                in_time(case(Run { mechanism: crate::MECHANISM, encoding: Encoding::Json })).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn binary() {
                in_time(case(Run { mechanism: crate::MECHANISM, encoding: Encoding::Binary })).await;
            }
        }
    )*};
}
#[allow(unused_imports, reason = "only for the mechanisms of `beside.rs`")]
pub(crate) use each_mechanism;

// ---- Calls ------------------------------------------------------------------------------------

each_mechanism! {
    async fn every_function_answers_a_typed_client(run) {
        let host = run.host("zoo").await;
        let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
        assert_eq!(zoo.echo(tiger()).await, Ok(tiger()));
        assert_eq!(zoo.join("ha".into(), 2, Some("ha".into())).await, Ok("hahaha".into()));
        assert_eq!(zoo.join("ha".into(), 2, None).await, Ok("ha".into()));
        assert_eq!(zoo.bytes(vec![0, 10, 13, 0xF5, 255]).await, Ok(vec![0, 10, 13, 0xF5, 255]));
        assert_eq!(zoo.decide(Ok(7)).await, Ok(7));
        assert_eq!(zoo.nothing().await, Ok(()));
        assert_eq!(zoo.sum().await, Ok(0));
    }

    async fn every_function_answers_a_blocking_client(run) {
        let host = run.host("zoo").await;
        let zoo = host.get::<dyn Zoo>("zoo").expect("a zoo").blocking();
        let calls = tokio::task::spawn_blocking(move || {
            assert_eq!(zoo.echo(tiger()), Ok(tiger()));
            assert_eq!(zoo.join("ha".into(), 2, Some("ha".into())), Ok("hahaha".into()));
            assert_eq!(zoo.bytes(vec![1, 2]), Ok(vec![1, 2]));
            assert_eq!(zoo.decide(Err(Shape::Point)), Err(CallError::Plugin(Shape::Point)));
            assert_eq!(zoo.nothing(), Ok(()));
            assert_eq!(zoo.sum(), Ok(0));
        });
        calls.await.expect("the calls");
    }

    async fn a_host_works_where_no_runtime_is(run) {
        let thread = std::thread::spawn(move || {
            let plugins = run.plugins("zoo");
            let host = plugins.builder().encoding(run.encoding).build_blocking().expect("a host");
            let zoo = host.get::<dyn Zoo>("zoo").expect("a zoo").blocking();
            assert_eq!(zoo.echo(tiger()), Ok(tiger()));
        });
        tokio::task::spawn_blocking(move || thread.join()).await.expect("joined").expect("the calls");
    }

    async fn every_function_answers_without_a_type(run) {
        let host = run.host("zoo").await;
        let plugin = host.plugin("zoo").expect("a zoo");
        for (function, arguments, answer) in [
            ("join", json!({"left": "a", "count": 2, "right": "b"}), json!("abb")),
            ("zoo.join", json!(["a", 1, null]), json!("a")),
            ("test:zoo/zoo.join", json!({"left": "a", "count": 1}), json!("a")),
            ("bytes", json!({"data": "AQID"}), json!("AQID")),
            ("bytes", json!({"data": [1, 2, 3]}), json!("AQID")),
            ("decide", json!({"verdict": {"ok": 7}}), json!(7)),
            ("nothing", json!({}), Value::Null),
            ("nothing", Value::Null, Value::Null),
            ("counter.add", json!({"number": 2}), json!(2)),
        ] {
            assert_eq!(plugin.call(function, arguments.clone()).await, Ok(answer), "{function} {arguments}");
        }
        let animal = plugin.call("echo", json!({"animal": tiger_json()})).await;
        assert_eq!(animal, Ok(tiger_json()));
    }

    async fn an_error_of_the_plugins_own_is_a_value(run) {
        let host = run.host("zoo").await;
        let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
        for shape in [Shape::Point, Shape::Circle(0.5), Shape::Box(1, 2), Shape::Lives(home())] {
            assert_eq!(zoo.decide(Err(shape.clone())).await, Err(CallError::Plugin(shape)));
        }
        let arguments = json!({"verdict": {"err": {"tag": "box", "val": [1, 2]}}});
        let answer = host.plugin("zoo").expect("a zoo").call("decide", arguments).await;
        assert_eq!(answer, Err(CallError::Plugin(json!({"tag": "box", "val": [1, 2]}))));
        assert_eq!(Client::plugin(&zoo).info().calls.ended(Status::Error), 5);
    }

    async fn two_interfaces_share_one_instance(run) {
        let host = run.host("zoo").await;
        let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
        let counter: Client<dyn Counter> = host.get("zoo").expect("a counter");
        assert_eq!(counter.add(2).await, Ok(2));
        assert_eq!(counter.add(3).await, Ok(5));
        assert_eq!(zoo.sum().await, Ok(5));
        assert_eq!(Client::plugin(&zoo).call("add", json!({"number": 1})).await, Ok(json!(6)));
    }

    async fn calls_at_the_same_time_get_their_own_answers(run) {
        let host = run.host("zoo").await;
        let mut calls = JoinSet::new();
        for number in 0..64_u32 {
            let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
            calls.spawn(async move {
                let long = "x".repeat(number as usize * 100);
                assert_eq!(zoo.join(number.to_string(), 1, Some(long.clone())).await, Ok(format!("{number}{long}")));
            });
        }
        calls.join_all().await;
        assert_eq!(host.plugin("zoo").expect("a zoo").info().calls.ended(Status::Ok), 64);
    }

    async fn a_client_that_outlives_its_host_fails_and_nothing_else(run) {
        let thread = std::thread::spawn(move || {
            let plugins = run.plugins("zoo");
            let host = plugins.builder().encoding(run.encoding).build_blocking().expect("a host");
            let zoo = host.get::<dyn Zoo>("zoo").expect("a zoo").blocking();
            assert_eq!(zoo.nothing(), Ok(()));
            drop(host);
            zoo.nothing()
        });
        let after = tokio::task::spawn_blocking(move || thread.join()).await.expect("joined").expect("no panic");
        says(&ended(after), &["unavailable: "]);
    }

    async fn a_stopped_plugin_is_not_called(run) {
        let host = run.host("zoo").await;
        let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
        host.stop().await;
        assert_eq!(Client::plugin(&zoo).info().state.as_str(), "stopped");
        assert_eq!(
            ended(zoo.nothing().await),
            "unavailable: call of `zoo.nothing` of plugin `zoo`: the plugin is not running: stopped",
        );
        assert_eq!(ended(Client::plugin(&zoo).call("nothing", json!({})).await).split(':').next(), Some("unavailable"));
        let error = host.get::<dyn Zoo>("zoo").expect_err("no zoo any more").to_string();
        says(&error, &["plugin `zoo` is not running", "stopped"]);
        host.stop().await;
    }
}

// ---- Values -----------------------------------------------------------------------------------

each_mechanism! {
    async fn any_value_comes_back_as_it_went(run) {
        let host = run.host("zoo").await;
        let zoo = host.get::<dyn Zoo>("zoo").expect("a zoo").blocking();
        let property = tokio::task::spawn_blocking(move || {
            let config = Config { cases: 96, failure_persistence: None, ..Config::default() };
            TestRunner::new(config).run(&animals(), |animal| {
                let back = zoo.echo(animal.clone()).expect("an answer");
                proptest::prop_assert!(same(&animal, &back), "{animal:?} came back as {back:?}");
                Ok(())
            })
        });
        property.await.expect("it ran").unwrap_or_else(|failure| panic!("{failure}"));
    }

    async fn numbers_at_the_edges_come_back_exactly(run) {
        let host = run.host("zoo").await;
        let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
        for number in [0, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, u64::MAX] {
            assert_eq!(zoo.decide(Ok(number)).await, Ok(number));
            let animal = Animal { u64: number, s64: -i64::try_from(number / 2).expect("half"), ..tiger() };
            assert_eq!(zoo.echo(animal.clone()).await, Ok(animal));
        }
        for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, 0.1 + 0.2] {
            #[allow(clippy::cast_possible_truncation, reason = "another float is as good")]
            let animal = Animal { f64: float, f32: float as f32, shape: Shape::Circle(float), ..tiger() };
            let back = zoo.echo(animal.clone()).await.expect("an answer");
            assert!(same(&animal, &back), "{animal:?} came back as {back:?}");
        }
    }

    async fn numbers_at_the_edges_come_back_exactly_without_a_type(run) {
        let host = run.host("zoo").await;
        let plugin = host.plugin("zoo").expect("a zoo");
        for (written, answer) in [
            (json!(9_007_199_254_740_991_u64), json!(9_007_199_254_740_991_u64)),
            (json!(9_007_199_254_740_993_u64), json!("9007199254740993")),
            (json!("9007199254740993"), json!("9007199254740993")),
            (json!(u64::MAX), json!("18446744073709551615")),
        ] {
            assert_eq!(plugin.call("decide", json!({"verdict": {"ok": written}})).await, Ok(answer));
        }
        for float in [json!("NaN"), json!("Infinity"), json!("-Infinity"), json!(-0.0), json!(1e300)] {
            let error = json!({"tag": "circle", "val": float});
            let answer = plugin.call("decide", json!({"verdict": {"err": error.clone()}})).await;
            assert_eq!(answer.map_err(|error| format!("{error:?}")), Err(format!("{:?}", CallError::Plugin(error))));
        }
    }

    async fn texts_and_lists_come_back_empty_and_odd(run) {
        let host = run.host("zoo").await;
        let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
        for text in ["", "\n", "\r\n\0\u{1}\u{7f}", "\"\\/", "\u{2028}\u{2029}", "o\u{308}\u{F5}\u{1F980}\u{10FFFF}"] {
            assert_eq!(zoo.join(text.into(), 1, Some(text.into())).await, Ok(text.repeat(2)), "{text:?}");
        }
        for letter in ['\0', '"', '\n', '\u{D7FF}', '\u{E000}', char::MAX] {
            let animal = Animal { letter, ..tiger() };
            assert_eq!(zoo.echo(animal.clone()).await, Ok(animal));
        }
        let empty = Animal {
            given_name: String::new(),
            photo: vec![],
            ages: vec![],
            nested: vec![vec![]],
            by_name: BTreeMap::new(),
            shapes: vec![],
            skills: Skills::default(),
            maybe_maybe: Some(None),
            empty_outcome: Err(()),
            ..tiger()
        };
        assert_eq!(zoo.echo(empty.clone()).await, Ok(empty));
        assert_eq!(zoo.bytes(vec![]).await, Ok(vec![]));
    }

    async fn a_mebibyte_comes_back(run) {
        let host = run.host("zoo").await;
        let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
        let data: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert!(zoo.bytes(data.clone()).await == Ok(data.clone()));
        let mut at_once = JoinSet::new();
        for _ in 0..4 {
            let (zoo, data): (Client<dyn Zoo>, _) = (host.get("zoo").expect("a zoo"), data.clone());
            at_once.spawn(async move { assert!(zoo.bytes(data.clone()).await == Ok(data)) });
        }
        at_once.join_all().await;
    }
}

// ---- What is checked before a call --------------------------------------------------------------

/// What this test calls a counter: one function more than the plugin has.
#[jackfield::interface("test:zoo/counter@0.2.0", crate = jackfield)]
trait BetterCounter {
    /// Adds, and gives the sum.
    fn add(&self, number: u64) -> u64;
    /// Begins anew.
    fn reset(&self);
}

/// Another line of versions.
#[jackfield::interface("test:zoo/counter@0.3.0", crate = jackfield)]
trait LaterCounter {
    /// Adds, and gives the sum.
    fn add(&self, number: u64) -> u64;
}

/// What the host of `skewed` takes a census to be. The plugin has a zip that is a string.
#[jackfield::interface("test:skewed/census@1.0.0", crate = jackfield)]
trait Census {
    /// Counts a household, and gives its size.
    fn count(&self, people: Vec<Person>) -> u32;
}

#[derive(jackfield::Type)]
#[jackfield(crate = jackfield)]
struct Person {
    name: String,
    home: Option<Home>,
}

#[derive(jackfield::Type)]
#[jackfield(crate = jackfield)]
struct Home {
    street: String,
    zip: u32,
}

each_mechanism! {
    async fn a_plugin_says_what_it_is(run) {
        let host = run.host("zoo").await;
        let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
        assert_eq!(*Client::comparison(&zoo), Comparison::Exact);
        let info = Client::plugin(&zoo).info();
        let interfaces: Vec<_> = info.interfaces.iter().map(|interface| interface.id.to_string()).collect();
        let capabilities: Vec<_> = info.capabilities.iter().map(ToString::to_string).collect();
        assert_eq!(interfaces, ["test:zoo/zoo@1.0.0", "test:zoo/counter@0.2.1"]);
        assert_eq!(capabilities, ["zoo@3"]);
        assert_eq!((&*info.name, &*info.own_name, &*info.version, info.generation), ("zoo", "zoo", "1.0.0", 1));
        assert_eq!(info.state.as_str(), "ready");
        let of_mechanism = match run.mechanism {
            Mechanism::Native => (MechanismKind::Native, false),
            Mechanism::Isolated => (MechanismKind::Native, true),
            Mechanism::Process => (MechanismKind::Process, true),
            Mechanism::Grpc | Mechanism::GrpcUnary => (MechanismKind::Grpc, true),
            Mechanism::Extism | Mechanism::Component | Mechanism::Command => (MechanismKind::Wasm, false),
        };
        assert_eq!((info.mechanism, info.process.is_some()), of_mechanism);
    }

    async fn all_plugins_with_an_interface_are_found(run) {
        let plugins = run.plugins("zoo");
        plugins.add(crate::suite::Fixture::new(run.mechanism, "zoo").named("menagerie"));
        plugins.add(crate::suite::Fixture::new(run.mechanism, "misbehave"));
        let host = plugins.host().await;
        let names = |names: Vec<&str>| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let all: Vec<_> = host.all::<dyn Zoo>().iter().map(|zoo| Client::plugin(zoo).name().to_owned()).collect();
        assert_eq!(all, names(vec!["menagerie", "zoo"]));
        let all: Vec<_> = host.plugins().iter().map(|plugin| plugin.name().to_owned()).collect();
        assert_eq!(all, names(vec!["menagerie", "misbehave", "zoo"]));
    }

    async fn a_capability_is_required_in_a_version_or_a_later_one(run) {
        let host = run.host("zoo").await;
        let check = |required: &str, expected: Expect| {
            let got = host.select().require(required).get::<dyn Zoo>("zoo");
            expected.assert_eq(&got.map_or_else(|error| error.to_string(), |_| "got it".to_owned()));
        };
        check("zoo@3", expect!["got it"]);
        check("zoo@1", expect!["got it"]);
        check("zoo@4", expect!["plugin `zoo` lacks a capability: the host requires `zoo@4`, the plugin offers version 3"]);
        check("aquarium@1", expect!["plugin `zoo` lacks a capability: the host requires `aquarium@1`, the plugin does not offer it"]);
        let error = host.select().require("zoo").get::<dyn Zoo>("zoo").expect_err("no version").to_string();
        says(&error, &["zoo"]);
    }

    async fn an_unknown_plugin_or_interface_is_named_with_what_there_is(run) {
        let host = run.host("zoo").await;
        let check = |error: jackfield::GetError, expected: Expect| expected.assert_eq(&error.to_string());
        check(host.get::<dyn Zoo>("zo").expect_err("unknown"), expect!["no plugin is called `zo`; did you mean `zoo`?"]);
        check(host.get::<dyn Zoo>("circus").expect_err("unknown"), expect!["no plugin is called `circus`; there are zoo"]);
        check(
            host.get::<dyn Misbehave>("zoo").expect_err("not offered"),
            expect!["plugin `zoo` does not offer `test:misbehave/misbehave@1.0.0`; it offers `test:zoo/zoo@1.0.0`, `test:zoo/counter@0.2.1`"],
        );
        check(
            host.get::<dyn LaterCounter>("zoo").expect_err("another version"),
            expect!["plugin `zoo` has another `test:zoo/counter@0.3.0`: at `interface` the host has version 0.3.0, the plugin version 0.2.1"],
        );
    }

    async fn a_difference_in_a_nested_record_is_found_at_load(run) {
        let host = run.host("skewed").await;
        let error = host.get::<dyn Census>("skewed").expect_err("another census").to_string();
        assert_eq!(
            error,
            "plugin `skewed` has another `test:skewed/census@1.0.0`: \
             at `count(people)[].home?.zip` the host has `u32`, the plugin `string`",
        );
        assert!(host.all::<dyn Census>().is_empty());
    }

    async fn a_function_that_may_be_missing_is_refused_when_it_is_called(run) {
        let host = run.host("zoo").await;
        let error = host.get::<dyn BetterCounter>("zoo").expect_err("a function is missing").to_string();
        says(&error, &["`reset`", "`reset()`", "no such function"]);
        let counter: Client<dyn BetterCounter> = host.select().optional("reset").get("zoo").expect("a counter");
        let missing = vec!["reset".to_owned()];
        assert_eq!(*Client::comparison(&counter), Comparison::Compatible { missing, extra: vec![] });
        assert_eq!(counter.add(1).await, Ok(1));
        assert_eq!(
            ended(counter.reset().await),
            "refused: call of `counter.reset` of plugin `zoo`: the plugin has no such function",
        );
        assert_eq!(counter.add(1).await, Ok(2));
    }

    async fn a_wrong_call_without_a_type_is_refused_with_the_place_and_the_nearest_name(run) {
        let host = run.host("zoo").await;
        let plugin = host.plugin("zoo").expect("a zoo");
        let echo = |field: &str, value: Value| {
            let mut animal = tiger_json();
            animal[field] = value;
            ("echo", json!({"animal": animal}))
        };
        let mut without = tiger_json();
        without.as_object_mut().expect("an object").remove("tame");
        let checks = [
            (("joyn", json!({})), "refused: call of `joyn` of plugin `zoo`: the plugin has no such function; did you mean `join`?"),
            (("fly", json!({})), "the plugin has no such function; it has echo, join, bytes, decide, nothing, sum, add"),
            (("zo.join", json!({})), "refused: it offers no interface `zo`; it offers test:zoo/zoo, test:zoo/counter"),
            (("counter.join", json!({})), "the plugin has no such function"),
            (("join", json!({"left": "a"})), "`join`: wants the argument `count` of type `u32`"),
            (("join", json!({"left": "a", "count": 1, "rihgt": "b"})), "`join`: has no argument `rihgt`; did you mean `right`?"),
            (("join", json!({"left": 1, "count": 1})), "`join(left)`: is a `string`, got the number 1"),
            (("join", json!({"left": "a", "count": -1})), "`join(count)`: -1 is out of range for `u32` (0 to 4294967295)"),
            (("join", json!({"left": "a", "count": 4_294_967_296_u64})), "`join(count)`: 4294967296 is out of range for `u32`"),
            (("join", json!(["a"])), "`join`: takes 3 arguments, got 1"),
            (("join", json!("a")), "`join`: arguments are an object or an array, got the string \"a\""),
            (echo("s8", json!(128)), "`echo(animal).s8`: 128 is out of range for `s8` (-128 to 127)"),
            (echo("u64", json!(1.5)), "`echo(animal).u64`: is a `u64`, got the number 1.5"),
            (echo("s64", json!("9223372036854775808")), "`echo(animal).s64`: 9223372036854775808 is out of range"),
            (echo("f64", json!("nan")), "`echo(animal).f64`: is a `f64`, got the string \"nan\""),
            (echo("f64", Value::Null), "`echo(animal).f64`: is a `f64`, got null"),
            (echo("f32", json!(1e300)), "is out of range for `f32`"),
            (echo("f64", json!(9_007_199_254_740_993_u64)), "9007199254740993 is no `f64` exactly"),
            (echo("letter", json!("ab")), "`echo(animal).letter`: is a `char`, got a string of 2 characters"),
            (echo("color", json!("darkgreen")), "`echo(animal).color`: `color` has no `darkgreen`; did you mean `dark-green`?"),
            (echo("home", json!({"street-name": "x", "zip": "y"})), "`echo(animal).home.zip`: is a `u32`, got the string \"y\""),
            (echo("tail", json!(1)), "`echo(animal)`: has no field `tail`"),
            (("echo", json!({"animal": without})), "`echo(animal)`: wants the field `tame` of type `bool`"),
        ];
        for ((function, arguments), expected) in checks {
            let answer = ended(plugin.call(function, arguments).await);
            assert!(answer.starts_with("refused: "), "{answer}");
            says(&answer, &[expected]);
        }
        assert_eq!(plugin.call("nothing", json!({})).await, Ok(Value::Null), "nothing of it has hurt the plugin");
    }
}

// ---- What goes wrong ----------------------------------------------------------------------------

each_mechanism! {
    async fn an_answer_above_the_limit_ends_its_call_alone(run) {
        let mut limits = Limits::default();
        limits.answer_bytes_max = 64 * 1024;
        let plugins = run.plugins("misbehave");
        let host = plugins.builder().encoding(run.encoding).limits(limits).build().await.expect("a host");
        let rascal = misbehave(&host, "misbehave");
        assert_eq!(rascal.answer_of(40_000).await.map(|answer| answer.len()), Ok(40_000));
        for bytes in [70_000, 1 << 20, 8 << 20] {
            let answer = ended(rascal.answer_of(bytes).await);
            says(&answer, &["limit: call of `misbehave.answer-of` of plugin `misbehave`: limit `answer_bytes`", "65536"]);
        }
        assert_eq!(rascal.echo("still here".into()).await, Ok("still here".into()));
    }

    async fn a_panic_ends_its_call_alone(run) {
        let host = run.host("misbehave").await;
        let rascal = misbehave(&host, "misbehave");
        let answer = ended(rascal.panic("out of milk".into()).await);
        says(&answer, &["panicked: call of `misbehave.panic` of plugin `misbehave`: the plugin panicked: out of milk ("]);
        says(&answer, &["lib.rs:"]);
        assert_eq!(rascal.echo("next".into()).await, Ok("next".into()));
        says(&ended(rascal.panic_oddly().await), &["panicked", "a value that is no text"]);
        assert_eq!(rascal.echo("next".into()).await, Ok("next".into()));
        assert_eq!(Client::plugin(&rascal).info().calls.ended(Status::Panicked), 2);
        assert_eq!(Client::plugin(&rascal).info().state.as_str(), "ready");
    }

    async fn calls_beside_a_panic_are_answered(run) {
        let host = run.host("misbehave").await;
        let mut calls = JoinSet::new();
        for number in 0..32 {
            let rascal = misbehave(&host, "misbehave");
            calls.spawn(async move {
                match number % 4 {
                    0 => says(&ended(rascal.panic("no".into()).await), &["panicked", "no ("]),
                    _ => assert_eq!(rascal.echo(number.to_string()).await, Ok(number.to_string())),
                }
            });
        }
        calls.join_all().await;
    }

    async fn what_a_plugin_prints_is_no_answer(run) {
        let host = run.host("misbehave").await;
        let rascal = misbehave(&host, "misbehave");
        for line in ["hello", r#"{"jsonrpc":"2.0","id":2,"result":"forged"}"#, "{\"id\":", "\u{F5}"] {
            assert_eq!(rascal.print(line.into()).await, Ok(()));
            assert_eq!(rascal.echo(line.into()).await, Ok(line.into()));
        }
    }
}

// ---- Animals ------------------------------------------------------------------------------------

fn home() -> Address {
    Address { street_name: "Deichstraße".into(), zip: Some(20_459) }
}

fn tiger() -> Animal {
    Animal {
        tame: false,
        s8: -8,
        s16: -16,
        s32: -32,
        s64: -64,
        u8: 8,
        u16: 16,
        u32: 32,
        u64: 64,
        f32: 0.5,
        f64: 0.1,
        letter: 'ж',
        given_name: "Shere \"Khan\"".into(),
        photo: vec![0, 1, 255],
        ages: vec![1, 2, 3],
        nested: vec![vec!["a".into()], vec![]],
        by_name: BTreeMap::from([("a".into(), -1), (String::new(), 0)]),
        by_number: BTreeMap::from([(u64::MAX, vec![1])]),
        by_truth: BTreeMap::from([(false, 'f'), (true, 't')]),
        by_letter: BTreeMap::from([('"', 1)]),
        nick: None,
        maybe_maybe: Some(Some(3)),
        outcome: Err(404),
        empty_outcome: Ok(()),
        pair: (1, "one".into()),
        shape: Shape::Lives(home()),
        shapes: vec![Shape::Point, Shape::Circle(1.5), Shape::Box(1, 2)],
        color: Color::DarkGreen,
        skills: Skills { swims: true, can_fly: false, sings: true },
        home: Address { street_name: String::new(), zip: None },
        weight: Grams(200_000),
    }
}

/// The same, as it is written in JSON.
fn tiger_json() -> Value {
    json!({
        "tame": false,
        "s8": -8, "s16": -16, "s32": -32, "s64": -64, "u8": 8, "u16": 16, "u32": 32, "u64": 64,
        "f32": 0.5, "f64": 0.1,
        "letter": "ж", "given-name": "Shere \"Khan\"", "photo": "AAH/",
        "ages": [1, 2, 3], "nested": [["a"], []],
        "by-name": {"a": -1, "": 0}, "by-number": {"18446744073709551615": "AQ=="},
        "by-truth": {"false": "f", "true": "t"}, "by-letter": {"\"": 1},
        "nick": null, "maybe-maybe": {"some": 3}, "outcome": {"err": 404}, "empty-outcome": {"ok": null},
        "pair": [1, "one"],
        "shape": {"tag": "lives", "val": {"street-name": "Deichstraße", "zip": 20459}},
        "shapes": [{"tag": "point"}, {"tag": "circle", "val": 1.5}, {"tag": "box", "val": [1, 2]}],
        "color": "dark-green", "skills": ["swims", "sings"],
        "home": {"street-name": "", "zip": null}, "weight": 200_000
    })
}
