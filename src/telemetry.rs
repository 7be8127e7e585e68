//! What is told of the server's work: the log, and traces where somebody collects them.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::Config;
use crate::crypto_provider;

/// Ends by telling what is yet to be told.
pub struct Telemetry {
    tracer_provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// The log goes to standard error: standard output is what was asked for.
    pub fn start(config: &Config) -> Result<Self, String> {
        let log = &config.log;
        let filter = EnvFilter::try_new(&log.filter).map_err(|error| format!("PARLOR_LOG={}: {error}", log.filter))?;
        // Colours are for a person at a terminal.
        let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
        let lines = if log.is_json { lines.json().boxed() } else { lines.boxed() };
        let traces =
            log.otlp_endpoint.as_deref().map(|endpoint| build_tracer_provider(endpoint, config)).transpose()?;
        let spans = traces.as_ref().map(|traces| tracing_opentelemetry::layer().with_tracer(traces.tracer("parlor")));
        tracing_subscriber::registry().with(spans).with(lines).with(filter).init();
        Ok(Self { tracer_provider: traces })
    }

    pub fn shutdown(self) {
        if let Some(traces) = self.tracer_provider
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn build_tracer_provider(endpoint: &str, config: &Config) -> Result<SdkTracerProvider, String> {
    crypto_provider::install_crypto_provider();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()
        .map_err(|error| format!("PARLOR_OTLP_ENDPOINT={endpoint}: {error}"))?;
    let mut resource = Resource::builder().with_service_name("parlor");
    if let Some(node) = &config.redis.node_name {
        resource = resource.with_attribute(opentelemetry::KeyValue::new("service.instance.id", node.clone()));
    }
    Ok(SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build())
}
