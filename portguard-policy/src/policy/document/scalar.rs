//! The types of plain scalars by the core schema of YAML 1.2 (section 10.3.2).

use super::{Number, Value};
use std::rc::Rc;

/// The value of a plain scalar.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_integer(text) || is_float(text) => Value::Number(Number {
            text: text.into(),
            int: natural(text),
        }),
        _ => Value::String(Rc::from(text)),
    }
}

/// `[-+]? [0-9]+`, `0o [0-7]+` or `0x [0-9a-fA-F]+`.
fn is_integer(text: &str) -> bool {
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    match text.get(..2) {
        Some("0o") => digits(&text[2..], 8),
        Some("0x") => digits(&text[2..], 16),
        _ => digits(unsigned(text), 10),
    }
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`, an infinity, or no number.
fn is_float(text: &str) -> bool {
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let rest = unsigned(text);
    if matches!(rest, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(unsigned(exponent))),
        None => (rest, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    has_digits
        && is_digits(whole)
        && is_digits(fraction)
        && exponent.is_none_or(|digits| !digits.is_empty() && is_digits(digits))
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

/// The value of an integer, where it is not negative and fits.
fn natural(text: &str) -> Option<u64> {
    match text.get(..2) {
        Some("0o") => u64::from_str_radix(&text[2..], 8).ok(),
        Some("0x") => u64::from_str_radix(&text[2..], 16).ok(),
        // -0 is 0.
        _ => text
            .parse()
            .ok()
            .or_else(|| (unsigned(text).parse() == Ok(0_u64)).then_some(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, plain};

    fn int(text: &str) -> Option<u64> {
        match plain(text) {
            Value::Number(number) => number.int,
            _ => None,
        }
    }

    #[test]
    fn integer_is_decimal_octal_or_hexadecimal() {
        for (text, expected) in [
            ("80", 80),
            ("+80", 80),
            ("0080", 80),
            ("-0", 0),
            ("-00", 0),
            ("0o17", 15),
            ("0x50", 80),
            ("0xfF", 255),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(int(text).unwrap_or(1), expected, "{text}");
        }
    }

    #[test]
    fn number_without_a_natural_value_keeps_its_text() {
        for text in [
            "-1",
            "18446744073709551616",
            "1.5",
            ".5",
            "5.",
            "1e3",
            "1E-400",
            "+1.e+3",
            ".inf",
            "-.INF",
            ".NaN",
            "0xfffffffffffffffff",
        ] {
            match plain(text) {
                Value::Number(number) => {
                    assert_eq!((&*number.text, number.int), (text, None));
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn words_and_numbers_of_yaml_1_1_are_strings() {
        for text in [
            "yes",
            "no",
            "on",
            "off",
            "y",
            "n",
            "1_000",
            "12:30",
            "1:2:3",
            "0b11",
            "0o8",
            "0x",
            "0o",
            "0xg",
            "+0x10",
            "-0o7",
            "0X50",
            "e3",
            "1e",
            "1e+",
            ".",
            "+",
            "-",
            "+.e1",
            "-.nan",
            "inf",
            "nan",
            "nUll",
            "tRue",
            "2001-12-14",
            "<<",
            "=",
            "١",
            "1.2.3",
        ] {
            assert!(matches!(plain(text), Value::String(_)), "{text}");
        }
    }

    #[test]
    fn null_and_booleans_have_three_spellings() {
        for text in ["", "~", "null", "Null", "NULL"] {
            assert!(matches!(plain(text), Value::Null), "{text}");
        }
        for text in ["true", "True", "TRUE"] {
            assert!(matches!(plain(text), Value::Bool(true)), "{text}");
        }
        for text in ["false", "False", "FALSE"] {
            assert!(matches!(plain(text), Value::Bool(false)), "{text}");
        }
    }
}
