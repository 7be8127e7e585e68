//! The log, and traces for an OpenTelemetry collector.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::log::LogSettings;
use crate::crypto_provider;
use crate::domain::text::redact_url;

/// A reason why the log or the traces cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter is not valid.
    #[error("PARLOR_LOG={filter}: must consist of tracing directives, such as parlor=debug,info: {source}")]
    Filter {
        /// The configured filter.
        filter: String,
        /// The cause.
        source: ParseError,
    },
    /// The exporter of traces cannot be built.
    #[error("PARLOR_OTLP_ENDPOINT={}: {source}", redact_url(endpoint))]
    Exporter {
        /// The configured address.
        endpoint: String,
        /// The cause.
        source: ExporterBuildError,
    },
}

/// The log and the traces of this process. [`Self::shutdown`] sends the traces that are still buffered.
pub struct Telemetry {
    tracer_provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Installs the log and the traces for the whole process.
    ///
    /// The log goes to standard error, because standard output contains the results of commands. The exporter runs on
    /// a thread of its own, which [`Self::shutdown`] stops.
    ///
    /// # Errors
    ///
    /// Fails if the log filter is not valid or if the exporter of traces cannot be built.
    ///
    /// # Panics
    ///
    /// Panics if the process has a log already.
    pub fn start(settings: &LogSettings, node_name: Option<&str>) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::try_new(&settings.filter)
            .map_err(|source| TelemetryError::Filter { filter: settings.filter.clone(), source })?;
        let use_colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(use_colours);
        let log = if settings.is_json { log.json().boxed() } else { log.boxed() };
        let tracer_provider = match &settings.otlp_endpoint {
            Some(endpoint) => Some(build_tracer_provider(endpoint, node_name)?),
            None => None,
        };
        let traces = tracer_provider
            .as_ref()
            .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("parlor")));
        tracing_subscriber::registry().with(traces).with(log).with(filter).init();
        Ok(Self { tracer_provider })
    }

    /// Sends the buffered traces and stops the exporter.
    pub fn shutdown(self) {
        if let Some(provider) = self.tracer_provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn build_tracer_provider(endpoint: &str, node_name: Option<&str>) -> Result<SdkTracerProvider, TelemetryError> {
    crypto_provider::install_crypto_provider();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()
        .map_err(|source| TelemetryError::Exporter { endpoint: endpoint.to_owned(), source })?;
    let mut resource = Resource::builder().with_service_name("parlor");
    if let Some(node_name) = node_name {
        let id = opentelemetry::KeyValue::new("service.instance.id", node_name.to_owned());
        resource = resource.with_attribute(id);
    }
    Ok(SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build())
}
