//! Who plays in [`chaos`](crate::chaos) and [`network`](crate::network): plugins that behave and that fail, and two tenants whose
//! sessions they are in.

use rand::seq::IndexedRandom as _;
use rand::{Rng, RngExt as _};
use sandbar_host::{FaultPolicy, Isolation, MemberSpec, Plugin, Quotas, Tenant, TenantId};
use serde_json::{Value, json};

use crate::engine::load;
use crate::guests;
use crate::peers::{PeerId, World};

/// The tenant that has little; the one after it has no quotas.
pub(crate) const BOUNDED: TenantId = TenantId(1);

/// Sessions at once, where nothing else is said.
pub(crate) const OPEN: usize = 8;

/// One of the two tenants.
pub(crate) fn tenant(rng: &mut impl Rng) -> TenantId {
    TenantId(rng.random_range(BOUNDED.0..=BOUNDED.0 + 1))
}

/// What is little for [`OPEN`] sessions, half of which are the tenant's. Of what decides when packets that are held go on there
/// is enough: who may not hold one lets it pass those that it holds.
pub(crate) fn little(sessions: usize) -> Quotas {
    let each = sessions.div_ceil(OPEN) as u64;
    Quotas {
        sessions: Some(3 * each),
        instances: Some(6 * each),
        emitted_packets: Some(10 * each),
        messages: Some(5 * each),
        metrics: Some(4 * each),
        attribute_bytes: Some(20 * each),
        ..Quotas::default()
    }
}

/// Whether another session is to be opened where so many are open.
pub(crate) fn opens(rng: &mut impl Rng, open: usize, most: usize) -> bool {
    open == 0 || (open < most && rng.random_bool(if most > OPEN { 0.3 } else { 0.05 }))
}

/// One of those that are open, by their indices.
pub(crate) fn any_open(rng: &mut impl Rng, open: impl Iterator<Item = bool>) -> Option<usize> {
    let open: Vec<usize> = open.enumerate().filter_map(|(n, open)| open.then_some(n)).collect();
    open.choose(rng).copied()
}

/// Nothing is left of sessions that are closed, on the shards of these peers and in what a tenant has had.
pub(crate) fn assert_nothing_left(world: &mut World, peers: impl IntoIterator<Item = PeerId>, tenant: &Tenant) {
    for peer in peers {
        let left = world.with(peer, |shard, _, _| (shard.sessions().count(), shard.instances()));
        assert_eq!(left, (0, 0), "nothing is left of sessions that are closed");
    }
    let usage = tenant.usage();
    let held = [usage.sessions, usage.instances, usage.memory_bytes, usage.held_packets, usage.timers, usage.metrics];
    assert_eq!((held, usage.attribute_bytes), ([0; 6], 0), "nothing is left of what a tenant has had");
}

/// What sessions' chains are made of: plugins, and each one's configurations.
#[derive(Clone)]
pub struct Plugins(Vec<(Plugin, Vec<Value>)>);

impl Plugins {
    /// Guests and standard plugins that let every packet go on, once and in order.
    pub fn load() -> Self {
        let mut all = Self::guests();
        all.0.extend([
            (standard("jitter-buffer"), vec![json!({}), json!({ "delay_ms": 10, "packets": 16 })]),
            (standard("twcc-header-extension"), vec![json!({})]),
            (standard("pacer"), vec![json!({ "bitrate": 200_000 }), json!({ "bitrate": 50_000, "queue_packets": 16 })]),
        ]);
        all
    }

    /// Guests that behave and that fail, in every way that lets packets go on.
    pub fn guests() -> Self {
        let lies =
            ["none", "twice", "twice-apart", "unknown", "truncated-head", "truncated-body", "not-rtp", "short-header"];
        let places = [
            "create",
            "restore",
            "save",
            "bind-rtcp",
            "bind",
            "unbind",
            "read-rtp",
            "write-rtp",
            "read-rtcp",
            "write-rtcp",
            "timeout",
            "control",
            "close",
        ];
        let counters = vec![
            json!({}),
            json!({ "access": "observe" }),
            json!({ "access": "pass" }),
            json!({ "view": "packets" }),
            json!({ "access": "observe", "view": "packets", "publish_ms": 7 }),
            json!({ "attribute": "n", "publish_ms": 20 }),
            json!({ "trap_after": 5 }),
            json!({ "trap_after": 3, "access": "observe" }),
            json!({ "refuse": "create" }),
            json!({ "refuse": "bind" }),
            json!({ "refuse": "restore" }),
        ];
        let hold =
            json!({ "read": "transform-headers", "on_read": "hold", "write": "transform-headers", "on_write": "hold" });
        let holders = [(20, None), (5, Some("timeout")), (20, Some("close")), (20, Some("unbind")), (20, Some("save"))]
            .map(|(hold_ms, fault)| {
                let mut config = hold.clone();
                config["hold_ms"] = json!(hold_ms);
                fault.into_iter().for_each(|fault| config["fault"] = json!(fault));
                config
            });
        let trap = |observe: bool| places.map(|at| json!({ "at": at, "after": 3, "observe": observe }));
        Self(vec![
            (load(guests::TYPED_COUNTER), counters.clone()),
            (load(guests::BATCHED_COUNTER), counters),
            (load(guests::TRAP), trap(true).into_iter().chain(trap(false)).collect()),
            (load(guests::LYING_BATCH), lies.map(|lie| json!({ "lie": lie, "after": 5 })).to_vec()),
            (
                load(guests::LYING_BATCH),
                vec![json!({ "access": "observe" }), json!({ "access": "observe", "lie": "observed" })],
            ),
            (load(guests::TRAP_ON_SSRC), (1..9).map(|n| json!({ "ssrc": 10 * n, "observe": n % 2 == 0 })).collect()),
            (load(guests::TIMER_STORM), vec![json!({})]),
            (load(guests::LOG_STORM), vec![json!({ "count": 5 })]),
            (load(guests::MEMORY_BOMB), vec![json!({ "per_packet": 9 << 20 })]),
            (load(guests::PROBE), holders.to_vec()),
            (load(guests::PUPPET), vec![json!({ "history": 32, "unbound": true, "rtcp": "transform", "state": "s" })]),
        ])
    }

    /// The standard plugins that talk to their like at the other end of a link, and those that look on, each at its station in
    /// order from the wire.
    pub fn talking() -> Self {
        let mut all = Self(vec![
            (standard("rtpfb"), vec![json!({})]),
            (standard("gcc"), vec![json!({}), json!({ "start_bitrate": 2_000_000 })]),
            (standard("twcc-header-extension"), vec![json!({})]),
            (standard("pacer"), vec![json!({}), json!({ "bitrate": 100_000 }), json!({ "queue_packets": 16 })]),
            (standard("nack-responder"), vec![json!({}), json!({ "packets": 64 })]),
            (standard("flexfec-encoder"), vec![json!({}), json!({ "media_packets": 3, "repair_packets": 1 })]),
            (standard("twcc-sender"), vec![json!({}), json!({ "interval_ms": 20 })]),
            (standard("rfc8888"), vec![json!({}), json!({ "interval_ms": 50 })]),
            (standard("flexfec-decoder"), vec![json!({})]),
            (standard("nack-generator"), vec![json!({}), json!({ "interval_ms": 30 })]),
            (standard("report-receiver"), vec![json!({ "interval_ms": 200 })]),
            (standard("report-sender"), vec![json!({ "interval_ms": 200 })]),
            (standard("stats"), vec![json!({})]),
            (standard("interval-pli"), vec![json!({ "interval_ms": 300 })]),
            (standard("jitter-buffer"), vec![json!({}), json!({ "delay_ms": 30, "packets": 16 })]),
            (standard("packet-counter"), vec![json!({})]),
            (standard("noop"), vec![json!({})]),
        ]);
        all.0.sort_by_key(|(plugin, _)| plugin.description().place);
        all
    }

    /// The same without one: a jitter buffer behind a holder that fails has a right to drop what comes late by that.
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(plugin, _)| plugin.name() != name);
        self
    }

    /// Their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(plugin, _)| plugin.name())
    }

    /// Any of them, with any of its configurations, policies that let packets go on, and neighbours.
    pub(crate) fn any(&self, rng: &mut impl Rng) -> MemberSpec {
        let (plugin, configs) = self.0.choose(rng).expect("plugins");
        spec(plugin, configs, rng)
    }

    /// The one of this name, in the same way.
    pub(crate) fn called(&self, name: &str, rng: &mut impl Rng) -> Option<MemberSpec> {
        let (plugin, configs) = self.0.iter().find(|(plugin, _)| plugin.name() == name)?;
        Some(spec(plugin, configs, rng))
    }

    /// Each of them with this probability, in their order.
    pub(crate) fn some(&self, part: f64, rng: &mut impl Rng) -> Vec<MemberSpec> {
        let mut chosen = Vec::new();
        for (plugin, configs) in &self.0 {
            if rng.random_bool(part) {
                chosen.push(spec(plugin, configs, rng));
            }
        }
        chosen
    }
}

fn spec(plugin: &Plugin, configs: &[Value], rng: &mut impl Rng) -> MemberSpec {
    let config = configs.choose(rng).expect("configurations").to_string();
    let policy = [FaultPolicy::Bypass, FaultPolicy::Restart][rng.random_range(0..2)];
    let isolation = [None, Some(Isolation::Session), Some(Isolation::Tenant)][rng.random_range(0..3)];
    // The liar keeps one configuration for its instance, not one for each session.
    let isolation = if plugin.name().ends_with("lying-batch") { Some(Isolation::Session) } else { isolation };
    // A quarantined version would end the trouble early.
    plugin.lift_quarantine();
    MemberSpec { isolation, ..MemberSpec::new(plugin.clone()).with_config(config).on_fault(policy) }
}

fn standard(name: &str) -> Plugin {
    let embedded = sandbar_plugins::by_name(name).unwrap_or_else(|| panic!("no standard plugin is called {name}"));
    load(embedded.component)
}
