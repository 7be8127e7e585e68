//! The settings of logs and traces.

use crate::config::reader::Reader;

/// The filter and format of the log, and the collector of traces.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Directives of the crate `tracing`, such as `parlor=debug,info`.
    pub filter: String,
    /// True for one JSON object per line, false for text.
    pub is_json: bool,
    /// The address of an OpenTelemetry collector (OTLP over HTTP). Without it no traces are sent.
    pub otlp_endpoint: Option<String>,
}

pub(super) fn read(reader: &mut Reader) -> LogSettings {
    reader.section("Logs and traces");
    LogSettings {
        filter: reader.value("PARLOR_LOG", "Log filter", "tracing directives, such as parlor=debug,info", "info"),
        is_json: reader.value_with("PARLOR_LOG_FORMAT", "Format of the log", "text or json", "text", |format| {
            match format {
                "text" => Ok(false),
                "json" => Ok(true),
                _ => Err("must be text or json"),
            }
        }),
        otlp_endpoint: reader.text(
            "PARLOR_OTLP_ENDPOINT",
            "Address to which traces are sent, by OTLP over HTTP",
            "http(s)://HOST:PORT",
            "not sent",
        ),
    }
}
