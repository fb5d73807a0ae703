//! The YAML parser: values by YAML 1.2, errors and their places.

#![expect(clippy::unwrap_used, reason = "a failed setup fails the test")]

use portguard_policy::policy::document::{Node, Span, Value, parse};
use std::fmt::Write as _;

/// A value on one line, each type in a form of its own.
fn shown(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => match number.int {
            Some(int) => int.to_string(),
            None => format!("#{}", number.text),
        },
        Value::String(text) => format!("{text:?}"),
        Value::List(entries) => {
            let entries: Vec<String> = entries.iter().map(shown).collect();
            format!("[{}]", entries.join(", "))
        }
        Value::Mapping(mapping) => {
            let entry = |entry: &portguard_policy::policy::document::Entry| {
                format!("{}: {}", entry.key, shown(&entry.value))
            };
            let entries: Vec<String> = mapping.iter().map(entry).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn value(text: &str) -> String {
    let document = parse(text);
    assert!(
        document.errors.is_empty(),
        "{text:?}: {:?}",
        document.errors
    );
    shown(&document.root.unwrap())
}

/// The errors of a text: line, column and message.
fn errors(text: &str) -> Vec<String> {
    let errors = parse(text).errors.into_iter();
    errors
        .map(|error| {
            format!(
                "{}:{}: {}",
                error.span.line, error.span.column, error.message
            )
        })
        .collect()
}

fn error(text: &str) -> String {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].clone()
}

#[test]
fn scalar_types_are_those_of_yaml_1_2() {
    for (text, expected) in [
        ("[80, +80, 0080, 0o17, 0x50]", "[80, 80, 80, 15, 80]"),
        ("[-1, 1.5, 1e3, .inf]", "[#-1, #1.5, #1e3, #.inf]"),
        ("[1_000, 12:30, 0b11]", r#"["1_000", "12:30", "0b11"]"#),
        (
            "[yes, no, on, off, y]",
            r#"["yes", "no", "on", "off", "y"]"#,
        ),
        ("[true, False, TRUE]", "[true, false, true]"),
        (
            "[\"80\", '80', \"~\", 'true']",
            r#"["80", "80", "~", "true"]"#,
        ),
        ("a: |\n 80\nb: >-\n 80\n", r#"{a: "80\n", b: "80"}"#),
        ("a:\nb: ''\n", r#"{a: null, b: ""}"#),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn text_without_a_document_is_null() {
    for text in ["", "\n\n", "# nothing\n", "---\n", "--- # nothing\n...\n"] {
        assert_eq!(value(text), "null", "{text:?}");
    }
}

#[test]
fn merge_key_is_a_key_like_others() {
    let text = "a: &a { b: 1 }\nc: { <<: *a }\n";
    assert_eq!(value(text), "{a: {b: 1}, c: {<<: {b: 1}}}");
}

#[test]
fn key_of_another_type_is_its_text() {
    assert_eq!(
        value("80: a\ntrue: b\n0x50: c\n"),
        r#"{80: "a", true: "b", 0x50: "c"}"#
    );
}

#[test]
fn key_that_is_not_a_scalar_is_refused() {
    for text in [
        "[a]: 1\n",
        "{a: 1}: 1\n",
        "? - a\n: 1\n",
        "a: &k b\n*k : 1\n",
    ] {
        assert!(
            error(text).ends_with("mapping keys must be strings"),
            "{text}"
        );
    }
}

#[test]
fn duplicate_key_keeps_the_first_and_is_an_error() {
    for second in ["a", "\"a\"", "'a'", "&x a", "\"\\x61\"", "? a\n"] {
        let document = parse(&format!("a: 1\n{second}: 2\nb: 3\n"));
        let messages: Vec<&str> = document.errors.iter().map(|e| e.message.as_str()).collect();
        assert_eq!(
            messages,
            ["duplicate key `a`, first defined on line 1"],
            "{second}"
        );
        assert_eq!(shown(&document.root.unwrap()), "{a: 1, b: 3}");
    }
}

#[test]
fn duplicate_key_does_not_hide_what_is_below_it() {
    let text = "a: 1\na: { b: !x 1, b: 2, c: &c 3 }\nd: *c\n";
    let found = errors(text);
    assert_eq!(
        found,
        [
            "2:1: duplicate key `a`, first defined on line 1",
            "2:12: YAML tags are not supported",
            "2:15: duplicate key `b`, first defined on line 2",
        ]
    );
    assert_eq!(shown(&parse(text).root.unwrap()), "{a: 1, d: 3}");
}

#[test]
fn tag_is_an_error_and_has_no_effect() {
    for (text, expected) in [
        ("!!int \"80\"", r#""80""#),
        ("!!str 80", "80"),
        ("!!binary aGk=", r#""aGk=""#),
        ("! 80", "80"),
        ("!<tag:yaml.org,2002:str> 80", "80"),
        ("!x [a]", r#"["a"]"#),
        ("!!set {a, b}", "{a: null, b: null}"),
    ] {
        let document = parse(text);
        let messages: Vec<&str> = document.errors.iter().map(|e| e.message.as_str()).collect();
        assert_eq!(messages, ["YAML tags are not supported"], "{text}");
        assert_eq!(shown(&document.root.unwrap()), expected, "{text}");
    }
}

#[test]
fn second_document_is_refused() {
    for text in [
        "a: 1\n---\nb: 2\n",
        "---\na: 1\n--- {}\n",
        "a: 1\n...\nb: 2\n",
    ] {
        assert!(error(text).contains("a single YAML document"), "{text}");
    }
    assert_eq!(value("---\na: 1\n...\n"), "{a: 1}");
}

#[test]
fn yaml_version_other_than_1_1_and_1_2_is_refused() {
    assert_eq!(value("%YAML 1.1\n---\na: 010\n"), "{a: 10}");
    assert_eq!(value("# c\n\n%YAML 1.2\n---\na: yes\n"), "{a: \"yes\"}");
    let expected = "2:1: unsupported YAML version 2.0, expected 1.2";
    assert_eq!(error("# c\n%YAML 2.0\n---\na: 1\n"), expected);
    assert_eq!(value("a: 1\n# %YAML 2.0\n"), "{a: 1}");
}

#[test]
fn alias_is_a_copy_with_the_place_of_the_alias() {
    let document = parse("a: &a\n  b: [1, 2]\nc: *a\n");
    let root = document.root.unwrap();
    assert_eq!(shown(&root), "{a: {b: [1, 2]}, c: {b: [1, 2]}}");
    let Value::Mapping(root) = &root.value else {
        panic!("{root:?}");
    };
    let Value::Mapping(copy) = &root.get("c").unwrap().value else {
        panic!("{root:?}");
    };
    let alias = Span {
        line: 3,
        column: 4,
        len: 2,
    };
    let entry = copy.iter().next().unwrap();
    assert_eq!(entry.key_span, alias);
    assert_eq!(entry.value.span, alias);
    assert_eq!(entry.value.as_list().unwrap()[1].span, alias);
}

#[test]
fn anchor_given_twice_means_the_last_one() {
    assert_eq!(value("[&a 1, *a, &a 2, *a]"), "[1, 1, 2, 2]");
}

#[test]
fn anchor_of_a_key_can_be_used() {
    assert_eq!(value("&k a: 1\nb: *k\n"), r#"{a: 1, b: "a"}"#);
}

#[test]
fn alias_within_its_own_anchor_is_refused() {
    let expected = "alias refers to the value that contains it";
    assert!(error("&a [*a]").ends_with(expected));
    assert!(error("a: &a { b: [*a] }").ends_with(expected));
    assert!(error("*a").ends_with("found unknown anchor"));
}

#[test]
fn alias_bomb_of_values_is_refused() {
    let mut text = "a0: &a0 [x]\n".to_owned();
    for i in 1..30 {
        let last = i - 1;
        writeln!(text, "a{i}: &a{i} [*a{last}, *a{last}, *a{last}, *a{last}]").unwrap();
    }
    assert!(error(&text).ends_with("more than 1048576 values after expanding aliases"));
}

#[test]
fn alias_bomb_of_text_is_refused() {
    let long = "x".repeat(1 << 20);
    let text = format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(1000));
    assert!(error(&text).ends_with("more than 16 MiB of text after expanding aliases"));
}

#[test]
fn aliases_cannot_nest_deeper_than_brackets() {
    let expected = "values are nested more than 32 levels deep";
    let mut text = "a0: &a0 [x]\n".to_owned();
    for i in 1..40 {
        writeln!(text, "a{i}: &a{i} [*a{}]", i - 1).unwrap();
    }
    assert_eq!(error(&text), format!("32:12: {expected}"));
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse(&deep(32)).errors.is_empty());
    assert_eq!(error(&deep(33)), format!("1:33: {expected}"));
}

#[test]
fn control_character_is_refused_where_it_is() {
    assert!(error("a: 1\r\nb:\r\u{7}").starts_with("3:1: control character U+0007 is not allowed"));
    assert!(error("\u{7f}").contains("U+007F"));
    assert!(error("a: \"\u{0}\"").contains("U+0000"));
    assert_eq!(value("a: \"\\0\""), r#"{a: "\0"}"#);
}

#[test]
fn line_ends_at_cr_and_lf_only() {
    for end in ["\n", "\r\n", "\r"] {
        assert_eq!(
            value(&format!("a: 1{end}b: 2{end}")),
            "{a: 1, b: 2}",
            "{end:?}"
        );
    }
    // Line breaks in YAML 1.1 only: a comment continues after them.
    for end in ["\u{85}", "\u{2028}", "\u{2029}"] {
        assert_eq!(value(&format!("a: 1 # c{end}b: 2\n")), "{a: 1}", "{end:?}");
        assert_eq!(
            value(&format!("a: x{end}y\n")),
            format!("{{a: {:?}}}", format!("x{end}y"))
        );
    }
}

#[test]
fn flow_entries_are_limited() {
    let text = format!("[{}]", "a,".repeat(1 << 20));
    let expected = "1:2097153: the file has more than 1048576 commas and opening brackets";
    assert_eq!(error(&text), expected);
}

#[test]
fn question_mark_without_a_blank_is_part_of_a_string() {
    assert_eq!(value("[?80, a?]"), r#"["?80", "a?"]"#);
    assert_eq!(value("? a\n: b\n"), r#"{a: "b"}"#);
}

#[test]
fn unclosed_syntax_ends_a_file_with_one_error() {
    for text in [
        "a: [",
        "a: {",
        "a: \"b",
        "a: 'b",
        "a: b: c",
        "a: *",
        "- a\nb: 1",
        "\t- a: b\n\tc",
    ] {
        let document = parse(text);
        assert_eq!(document.errors.len(), 1, "{text:?}: {:?}", document.errors);
        assert!(document.root.is_none(), "{text:?}");
    }
}
