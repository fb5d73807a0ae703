//! What a scraper asks for: the format, and whether it is compressed.

use super::text::Exposition;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::HeaderMap;
use hyper::header::{ACCEPT, ACCEPT_ENCODING};
use std::io::Write as _;

/// OpenMetrics, of which only this version is written.
const OPEN_METRICS: &str = "application/openmetrics-text";
const VERSION: &str = "1.0.0";

/// The format that a request prefers.
pub(super) fn exposition(headers: &HeaderMap) -> Exposition {
    let mut open_metrics = 0.0;
    let mut others = 0.0_f32;
    for (name, parameters) in offers(headers, ACCEPT.as_str()) {
        let weight = weight(&parameters);
        let version = parameters
            .iter()
            .find_map(|text| text.strip_prefix("version="));
        if name == OPEN_METRICS && version.is_none_or(|version| version == VERSION) {
            open_metrics = weight;
        } else if name != OPEN_METRICS {
            others = others.max(weight);
        }
    }
    if open_metrics > 0.0 && open_metrics >= others {
        Exposition::OpenMetrics
    } else {
        Exposition::Prometheus
    }
}

/// Whether a request takes gzip.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut offers = offers(headers, ACCEPT_ENCODING.as_str());
    let gzip = offers.find(|(name, _)| name == "gzip");
    gzip.is_some_and(|(_, parameters)| weight(&parameters) > 0.0)
}

/// Compressed, fast rather than small; `None` where there is no memory for it.
pub(super) fn gzip(text: &str) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).ok()?;
    encoder.finish().ok()
}

/// What a header offers: each name in lower case with its parameters.
fn offers(headers: &HeaderMap, name: &str) -> impl Iterator<Item = (String, Vec<String>)> {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|offer| {
        let mut parts = offer
            .split(';')
            .map(|part| part.trim().to_ascii_lowercase());
        (parts.next().unwrap_or_default(), parts.collect())
    })
}

/// The weight among parameters, `q=0.5`; 1 where there is none.
fn weight(parameters: &[String]) -> f32 {
    let weight = parameters.iter().find_map(|text| text.strip_prefix("q="));
    weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn exposition_is_what_the_request_prefers() {
        let of = |value| exposition(&headers(ACCEPT, value));
        // Prometheus 2.42, curl, and a client that knows only an older OpenMetrics.
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.75,\
             application/openmetrics-text;version=0.0.1;q=0.7,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(of(prometheus), Exposition::OpenMetrics);
        assert_eq!(of("*/*"), Exposition::Prometheus);
        let older = "application/openmetrics-text; version=0.0.1";
        assert_eq!(of(older), Exposition::Prometheus);
        let text = "text/plain, application/openmetrics-text;q=0.5";
        assert_eq!(of(text), Exposition::Prometheus);
        assert_eq!(
            of("application/openmetrics-text;q=0"),
            Exposition::Prometheus
        );
        assert_eq!(exposition(&HeaderMap::new()), Exposition::Prometheus);
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let of = |value| takes_gzip(&headers(ACCEPT_ENCODING, value));
        assert!(of("gzip") && of("br, GZIP;q=0.5"));
        assert!(!of("gzip;q=0") && !of("identity") && !takes_gzip(&HeaderMap::new()));
    }
}
