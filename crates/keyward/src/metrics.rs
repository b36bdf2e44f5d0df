//! Counters for Prometheus. Label sets are resolved once, so that counting is one atomic add.

use keyward_core::verdict::Outcome;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabel {
    sink: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

/// What is counted of one class of events of the book.
#[derive(Debug, Clone)]
pub struct ClassMeter {
    /// Events that found no room.
    pub lost: Counter,
    /// Verifications that were not answered for want of room.
    pub held_back: Counter,
}

/// What is counted of one sink of the book.
#[derive(Debug, Clone)]
pub struct SinkMeter {
    /// Events that wait for it.
    pub lag: Gauge,
    pub delivered: Counter,
    pub failures: Counter,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// In the order of `Outcome::ALL`.
    outcomes: Vec<Counter>,
    pub cache_misses: Counter,
    pub unjudged: Counter,
    pub unwritten_uses: Counter,
    pub unmetered: Counter,
    pub failed_logins: Counter,
    pub csp_reports: Counter,
    pub tls_reloads: Counter,
    pub failed_tls_reloads: Counter,
    pub cached_secrets: Gauge,
    pub waiting_uses: Gauge,
    sink_lag: Family<SinkLabel, Gauge>,
    sink_delivered: Family<SinkLabel, Counter>,
    sink_failures: Family<SinkLabel, Counter>,
    lost_events: Family<ClassLabel, Counter>,
    held_back: Family<ClassLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("keyward");
        let verifications = Family::<OutcomeLabel, Counter>::default();
        registry.register("verifications", "Judged keys by outcome", verifications.clone());
        let outcomes = Outcome::ALL
            .iter()
            .map(|outcome| verifications.get_or_create(&OutcomeLabel { code: outcome.as_str() }).clone())
            .collect();
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let cache_misses = counter(&mut registry, "cache_misses", "Secrets that had to be read from the database");
        let unjudged =
            counter(&mut registry, "unjudged", "Verifications without a verdict: the database did not answer");
        let unwritten_uses =
            counter(&mut registry, "unwritten_uses", "Last uses that were lost because the database did not take them");
        let unmetered = counter(
            &mut registry,
            "unmetered",
            "Verifications missing in reports: too many were waiting to be written",
        );
        let failed_logins = counter(&mut registry, "failed_logins", "Sign-ins that were refused");
        let csp_reports = counter(&mut registry, "csp_reports", "Reports of browsers about the policy of our pages");
        let tls_reloads = counter(&mut registry, "tls_reloads", "New certificates that were taken while running");
        let failed_tls_reloads =
            counter(&mut registry, "failed_tls_reloads", "New certificates that could not be used; the old one stayed");
        let cached_secrets = Gauge::default();
        registry.register("cached_secrets", "Secrets held in memory", cached_secrets.clone());
        let waiting_uses = Gauge::default();
        registry.register(
            "waiting_uses",
            "Last uses that wait to be written, as of the last flush",
            waiting_uses.clone(),
        );
        let (sink_lag, sink_delivered, sink_failures) = (Family::default(), Family::default(), Family::default());
        registry.register("sink_lag_events", "Events of the book that wait for a sink", sink_lag.clone());
        registry.register("sink_delivered", "Events of the book that a sink has taken", sink_delivered.clone());
        registry.register("sink_failures", "Batches that a sink did not take", sink_failures.clone());
        let (lost_events, held_back) = (Family::default(), Family::default());
        registry.register("lost_events", "Events of a class that the book could not take in", lost_events.clone());
        registry.register(
            "held_back",
            "Verifications without a verdict: the book could not take in their event, and its class is closed",
            held_back.clone(),
        );
        Self {
            registry,
            outcomes,
            cache_misses,
            unjudged,
            unwritten_uses,
            unmetered,
            failed_logins,
            csp_reports,
            tls_reloads,
            failed_tls_reloads,
            cached_secrets,
            waiting_uses,
            sink_lag,
            sink_delivered,
            sink_failures,
            lost_events,
            held_back,
        }
    }
}

impl Metrics {
    pub fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].inc();
    }

    pub fn of_sink(&self, name: &str) -> SinkMeter {
        let label = SinkLabel { sink: name.to_owned() };
        SinkMeter {
            lag: self.sink_lag.get_or_create(&label).clone(),
            delivered: self.sink_delivered.get_or_create(&label).clone(),
            failures: self.sink_failures.get_or_create(&label).clone(),
        }
    }

    pub fn of_class(&self, class: &'static str) -> ClassMeter {
        let label = ClassLabel { class };
        ClassMeter {
            lost: self.lost_events.get_or_create(&label).clone(),
            held_back: self.held_back.get_or_create(&label).clone(),
        }
    }

    /// The OpenMetrics text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a string takes everything");
        out
    }
}
