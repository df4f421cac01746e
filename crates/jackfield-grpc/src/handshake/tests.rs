use expect_test::{Expect, expect};

use super::*;

/// What a line means, in words, or why it means nothing.
fn check(line: &str, expected: Expect) {
    let said = match Line::parse(line) {
        Ok(Line { app_version, address, protocol, certificate, multiplex }) => {
            let certificate = certificate.map_or("no certificate".to_owned(), |der| format!("{} bytes", der.len()));
            let multiplex = multiplex.map_or("nothing of multiplexing".to_owned(), |yes| format!("multiplex {yes}"));
            format!("app {app_version}, {address}, {protocol}, {certificate}, {multiplex}")
        }
        Err(error) => format!("error: {error}"),
    };
    expected.assert_eq(&said);
}

#[test]
fn a_line_of_a_plugin_in_go_is_understood() {
    check(
        "1|1|unix|/tmp/plugin1053643046|grpc|\n",
        expect!["app 1, unix:/tmp/plugin1053643046, grpc, no certificate, nothing of multiplexing"],
    );
    check("1|3|unix|/p|grpc||true\n", expect!["app 3, unix:/p, grpc, no certificate, multiplex true"]);
    check("1|3|unix|/p|grpc||false", expect!["app 3, unix:/p, grpc, no certificate, multiplex false"]);
}

#[test]
fn space_around_a_line_is_nothing() {
    check("  \t1|1|unix|/p|grpc|\r\n", expect!["app 1, unix:/p, grpc, no certificate, nothing of multiplexing"]);
}

#[test]
fn four_fields_are_a_plugin_of_net_rpc_and_five_say_more() {
    check("1|1|unix|/p", expect!["app 1, unix:/p, netrpc, no certificate, nothing of multiplexing"]);
    check(
        "1|1|tcp|127.0.0.1:1234|grpc",
        expect!["app 1, tcp:127.0.0.1:1234, grpc, no certificate, nothing of multiplexing"],
    );
    check("1|1|unix|/p|netrpc", expect!["app 1, unix:/p, netrpc, no certificate, nothing of multiplexing"]);
}

#[test]
fn fewer_fields_are_no_handshake() {
    check("", expect![[r#"error: the first line of stdout is no handshake, but """#]]);
    check("listening on /p\n", expect![[r#"error: the first line of stdout is no handshake, but "listening on /p""#]]);
    check("1|1|unix", expect![[r#"error: the first line of stdout is no handshake, but "1|1|unix""#]]);
}

#[test]
fn another_version_of_the_line_is_refused() {
    check("2|1|unix|/p|grpc|", expect!["error: the plugin's handshake has version 2, this host understands version 1"]);
    check(
        "-1|1|unix|/p|grpc|",
        expect!["error: the plugin's handshake has version -1, this host understands version 1"],
    );
    check("one|1|unix|/p|grpc|", expect![[r#"error: the version of the handshake is no number, but "one""#]]);
    check("|1|unix|/p|grpc|", expect![[r#"error: the version of the handshake is no number, but """#]]);
}

#[test]
fn an_application_version_is_a_number() {
    check("1|v2|unix|/p|grpc|", expect![[r#"error: the application's version is no number, but "v2""#]]);
    check("1|-1|unix|/p|grpc|", expect![[r#"error: the application's version is no number, but "-1""#]]);
}

#[test]
fn an_address_is_a_path_or_a_port_of_this_machine() {
    check(
        "1|1|pipe|/p|grpc|",
        expect![[r#"error: unknown kind of address "pipe", which is neither `unix` nor `tcp`"#]],
    );
    check("1|1|unix||grpc|", expect![[r#"error: "" is no unix address"#]]);
    check("1|1|tcp|1234|grpc|", expect![[r#"error: "1234" is no tcp address"#]]);
    check("1|1|tcp|127.0.0.1:99999|grpc|", expect![[r#"error: "127.0.0.1:99999" is no tcp address"#]]);
    check("1|1|tcp|example.com:1|grpc|", expect![[r#"error: "example.com:1" is no tcp address"#]]);
    check(
        "1|1|tcp|localhost:1234|grpc|",
        expect!["app 1, tcp:127.0.0.1:1234, grpc, no certificate, nothing of multiplexing"],
    );
    check("1|1|tcp|[::1]:7|grpc|", expect!["app 1, tcp:[::1]:7, grpc, no certificate, nothing of multiplexing"]);
}

#[test]
fn an_unknown_protocol_is_refused() {
    check(
        "1|1|unix|/p|thrift|",
        expect![[r#"error: the plugin speaks "thrift", which is neither `grpc` nor `netrpc`"#]],
    );
    check("1|1|unix|/p||", expect![[r#"error: the plugin speaks "", which is neither `grpc` nor `netrpc`"#]]);
}

#[test]
fn a_short_sixth_field_is_no_certificate() {
    let fifty = "!".repeat(50);
    check(
        &format!("1|1|unix|/p|grpc|{fifty}"),
        expect!["app 1, unix:/p, grpc, no certificate, nothing of multiplexing"],
    );
}

#[test]
fn a_long_sixth_field_is_a_certificate() {
    check(
        &format!("1|1|unix|/p|grpc|{}", "A".repeat(52)),
        expect!["app 1, unix:/p, grpc, 39 bytes, nothing of multiplexing"],
    );
    check(
        &format!("1|1|unix|/p|grpc|{}!|true", "A".repeat(51)),
        expect!["error: the plugin's certificate is not base64: Invalid symbol 33, offset 51."],
    );
    // Go writes none, and refuses it.
    check(
        &format!("1|1|unix|/p|grpc|{}==", "A".repeat(54)),
        expect!["error: the plugin's certificate is not base64: Invalid padding"],
    );
}

#[test]
fn multiplexing_is_true_or_false() {
    check("1|1|unix|/p|grpc||T", expect!["app 1, unix:/p, grpc, no certificate, multiplex true"]);
    check("1|1|unix|/p|grpc||0", expect!["app 1, unix:/p, grpc, no certificate, multiplex false"]);
    check(
        "1|1|unix|/p|grpc||yes",
        expect![[r#"error: whether the plugin multiplexes is neither true nor false, but "yes""#]],
    );
    check(
        "1|1|unix|/p|grpc||",
        expect![[r#"error: whether the plugin multiplexes is neither true nor false, but """#]],
    );
    check("1|1|unix|/p|grpc||true|more", expect!["app 1, unix:/p, grpc, no certificate, multiplex true"]);
}

#[test]
fn a_printed_line_has_six_fields_and_a_seventh_if_asked_for() {
    let mut line = Line {
        app_version: 2,
        address: Address::Unix("/tmp/plugin1".into()),
        protocol: Protocol::Grpc,
        certificate: None,
        multiplex: None,
    };
    assert_eq!(line.to_string(), "1|2|unix|/tmp/plugin1|grpc|");
    line.multiplex = Some(true);
    assert_eq!(line.to_string(), "1|2|unix|/tmp/plugin1|grpc||true");
    line.certificate = Some(vec![0xfb; 40]);
    let printed = line.to_string();
    let field = "+/v7".repeat(13) + "+w";
    assert_eq!(printed, format!("1|2|unix|/tmp/plugin1|grpc|{field}|true"));
    assert_eq!(Line::parse(&printed), Ok(line));
}

#[test]
fn the_highest_version_of_both_is_chosen() {
    assert_eq!(negotiate(&[2, 3], Some("3,2,9")), 3);
    assert_eq!(negotiate(&[3, 2], Some("2,9")), 2);
    assert_eq!(negotiate(&[5, 6], Some("x,,6.0, 6,5")), 5);
}

#[test]
fn without_a_common_version_the_lowest_is_chosen() {
    assert_eq!(negotiate(&[3, 2], Some("7")), 2);
    assert_eq!(negotiate(&[3, 2], Some("")), 2);
    assert_eq!(negotiate(&[3, 2], None), 2);
}
