//! Changed plugins and configurations, taken over or refused while media flows.

use std::path::Path;
use std::time::Duration;

use sandbar::config::{Config, Member, PluginEntry, PluginSource, Tenant};
use sandbar::relay::{RelayEvent, ReloadError};
use sandbar_host::{Grants, SecretKey};
use serde_json::json;

use crate::support::*;

/// A relay with the plugin `mine` from a file on the publisher's leg, and media through it.
struct Scene {
    running: Running,
    publisher: Client,
    viewer: Client,
    file: tempfile::TempDir,
    next: u16,
}

impl Scene {
    fn new() -> Self {
        let (publisher, viewer) = (Client::new(), Client::new());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.wasm");
        std::fs::write(&file, component("noop")).unwrap();
        let chains: &[(&str, &[&str])] = &[("ingest", &["mine", "report-receiver"]), ("egress", &["mine"])];
        let subscribers = vec![("viewer", leg_to("egress", &viewer))];
        let mut config = config(vec![route(leg("ingest"), vec![video()], subscribers)], chains);
        config.plugins.insert("mine".into(), from_file(&file));
        config.server.watch = Some(Duration::from_millis(10));
        let mut scene = Self { running: Running::start(config), publisher, viewer, file: folder, next: 0 };
        scene.media_flows();
        scene
    }

    fn media_flows(&mut self) {
        for _ in 0..20 {
            self.publisher.send(self.running.publisher(), &frame(1, self.next));
            assert_eq!(sequence(&self.viewer.media()), self.next);
            self.next += 1;
        }
    }

    fn write(&self, bytes: &[u8]) {
        // As editors and linkers do: aside, then in its place.
        let aside = self.file.path().join("aside");
        std::fs::write(&aside, bytes).unwrap();
        std::fs::rename(aside, self.file.path().join("mine.wasm")).unwrap();
    }

    fn plugins(&self, leg: &sandbar::relay::LegName) -> Vec<String> {
        let report = self.running.relay.report().unwrap();
        let session = report.leg(leg).unwrap().session.clone().unwrap();
        session.members.into_iter().map(|member| member.plugin).collect()
    }

    fn config(&self) -> Config {
        // What runs is what was asked for at the start; the ports were free ones and stay so.
        let viewer = leg_to("egress", &self.viewer);
        let chains: &[(&str, &[&str])] = &[("ingest", &["mine", "report-receiver"]), ("egress", &["mine"])];
        let mut config = config(vec![route(leg("ingest"), vec![video()], vec![("viewer", viewer)])], chains);
        config.plugins.insert("mine".into(), from_file(&self.file.path().join("mine.wasm")));
        config.server.watch = Some(Duration::from_millis(10));
        config
    }

    fn refusal(&self) -> String {
        self.running.event(|event| match event {
            RelayEvent::Refused { what, message } => Some(format!("{what}: {message}")),
            _ => None,
        })
    }
}

#[test]
fn a_plugin_file_that_changes_is_taken_into_all_chains_and_a_bad_one_is_not() {
    let mut scene = Scene::new();
    scene.write(component("packet-counter"));
    let (plugin, legs) = scene.running.event(|event| match event {
        RelayEvent::Swapped { plugin, legs, .. } => Some((plugin.clone(), legs.clone())),
        _ => None,
    });
    assert_eq!((plugin.as_str(), legs), ("mine", vec![publisher(), subscriber("viewer")]));
    assert_eq!(scene.plugins(&publisher()), ["packet-counter", "report-receiver"]);
    scene.media_flows();
    for bad in [&b""[..], b"not a component", &component("noop")[..1000], b"\0asm\x01\0\0\0"] {
        scene.write(bad);
        let refusal = scene.refusal();
        assert!(refusal.starts_with("the changed plugin mine: the plugin mine from "), "{refusal}");
        assert_eq!(scene.plugins(&publisher()), ["packet-counter", "report-receiver"]);
        scene.media_flows();
    }
    // It would not start: it wants no key that it does not know. No leg keeps it.
    let mut config = scene.config();
    config.chains.get_mut("egress").unwrap()[0] = Member::with_config("mine", r#"{"anything":1}"#);
    scene.write(component("noop"));
    scene.running.relay.reload(config).unwrap();
    scene.write(component("report-sender"));
    let refusal = scene.refusal();
    let expected = "the changed plugin mine: leg camera/viewer: the plugin report-sender refuses its configuration";
    assert!(refusal.starts_with(expected), "{refusal}");
    assert_eq!(scene.plugins(&publisher()), ["noop", "report-receiver"], "all legs or none");
    scene.media_flows();
}

#[test]
fn a_changed_file_that_its_tenant_does_not_trust_is_refused_and_a_signed_one_taken() {
    let mut scene = Scene::new();
    let key = SecretKey::from_bytes(&[7; 32]);
    scene.write(&key.sign(component("noop")).unwrap());
    scene.running.event(|event| matches!(event, RelayEvent::Swapped { .. }).then_some(()));
    let mut config = scene.config();
    config.tenants.insert("default".into(), Tenant { signed_by: vec![key.public()], ..Tenant::default() });
    scene.running.relay.reload(config.clone()).unwrap();
    scene.write(component("packet-counter"));
    let refusal = scene.refusal();
    assert!(refusal.contains("is signed by nobody, and the tenant default takes only"), "{refusal}");
    assert_eq!(scene.plugins(&publisher()), ["noop", "report-receiver"]);
    scene.media_flows();
    scene.write(&key.sign(component("packet-counter")).unwrap());
    scene.running.event(|event| matches!(event, RelayEvent::Swapped { .. }).then_some(()));
    assert_eq!(scene.plugins(&publisher()), ["packet-counter", "report-receiver"]);
    // Trust can be withdrawn, but not under what runs.
    config.tenants.insert(
        "default".into(),
        Tenant { signed_by: vec![SecretKey::from_bytes(&[8; 32]).public()], ..Tenant::default() },
    );
    let error = scene.running.relay.reload(config).unwrap_err().to_string();
    assert!(error.starts_with("routes[0].tenant: the plugin mine from "), "{error}");
    scene.media_flows();
}

#[test]
fn a_quarantine_says_why_and_a_reload_lifts_it() {
    let mut scene = Scene::new();
    let mut config = scene.config();
    let looper = PluginSource::Bytes(bytes::Bytes::from_static(sandbar_tests::guests::ENDLESS_LOOP));
    config.plugins.insert("looper".into(), PluginEntry { source: looper, grants: Grants::default() });
    config.chains.get_mut("ingest").unwrap().insert(0, Member::new("looper"));
    // It loops once in a session; with another configuration it is put in its place again.
    let mut after = 0;
    let mut quarantine = |scene: &mut Scene, config: &mut Config| loop {
        after += 1;
        config.chains.get_mut("ingest").unwrap()[0] =
            Member::with_config("looper", json!({ "after": after }).to_string());
        scene.running.relay.reload(config.clone()).unwrap();
        scene.media_flows();
        let report = scene.running.relay.report().unwrap();
        let member = report.leg(&publisher()).unwrap().session.clone().unwrap().members.remove(0);
        if let Some(reason) = member.quarantine {
            return reason;
        }
        assert!(after < 20, "{member:?}");
    };
    let reason = quarantine(&mut scene, &mut config);
    assert!(reason.starts_with("it failed too often; last, in the session camera/publisher (deadline): "), "{reason}");
    let reloaded = scene.running.relay.reload(config.clone()).unwrap();
    assert_eq!(reloaded.legs, [publisher()]);
    let report = scene.running.relay.report().unwrap();
    assert_eq!(report.leg(&publisher()).unwrap().session.clone().unwrap().members[0].quarantine, None);
    quarantine(&mut scene, &mut config);
}

#[test]
fn what_a_tenant_uses_is_reported_and_its_quotas_change_with_a_restart() {
    let mut scene = Scene::new();
    scene.media_flows();
    let report = scene.running.relay.report().unwrap();
    let [tenant] = &report.tenants[..] else { panic!("{:?}", report.tenants) };
    assert_eq!((tenant.name.as_str(), tenant.usage.sessions), ("default", 2));
    assert!(tenant.usage.instances > 0 && tenant.usage.memory_bytes > 0, "{tenant:?}");
    let mut config = scene.config();
    let quotas = sandbar_host::Quotas { sessions: Some(3), ..sandbar_host::Quotas::default() };
    config.tenants.insert("default".into(), Tenant { quotas, ..Tenant::default() });
    let error = scene.running.relay.reload(config).unwrap_err().to_string();
    assert!(error.contains("the quotas of the tenant default have changed"), "{error}");
    scene.media_flows();
}

#[test]
fn a_reload_changes_chains_member_by_member_and_touches_no_other() {
    let mut scene = Scene::new();
    let before = scene.running.relay.report().unwrap();
    let counted = |report: &sandbar::relay::RelayReport| {
        let session = report.leg(&publisher()).unwrap().session.clone().unwrap();
        session.members.iter().find(|member| member.plugin == "report-receiver").map(|member| member.packets_in)
    };
    assert!(counted(&before) >= Some(20));
    let mut config = scene.config();
    *config.chains.get_mut("ingest").unwrap() =
        vec![Member::new("nack-generator"), Member::new("packet-counter"), Member::new("report-receiver")];
    config.chains.get_mut("egress").unwrap().clear();
    let reloaded = scene.running.relay.reload(config.clone()).unwrap();
    assert_eq!(reloaded.legs, [publisher(), subscriber("viewer")]);
    assert_eq!(scene.plugins(&publisher()), ["nack-generator", "packet-counter", "report-receiver"]);
    assert_eq!(scene.plugins(&subscriber("viewer")), [""; 0]);
    scene.media_flows();
    assert!(counted(&scene.running.relay.report().unwrap()) >= Some(40), "it was left where it was");
    // Nothing has changed, so nothing is done.
    assert_eq!(scene.running.relay.reload(config).unwrap(), Default::default());
}

#[test]
fn a_reload_happens_as_a_whole_or_not_at_all() {
    let mut scene = Scene::new();
    let mut config = scene.config();
    config.chains.insert("ingest".into(), vec![Member::new("packet-counter")]);
    config.chains.insert("egress".into(), vec![Member::with_config("report-sender", r#"{"wrong":1}"#)]);
    let error = scene.running.relay.reload(config).unwrap_err();
    assert!(error.to_string().starts_with("leg camera/viewer: the plugin report-sender refuses"), "{error}");
    assert_eq!(scene.plugins(&publisher()), ["mine", "report-receiver"].map(|name| name.replace("mine", "noop")));
    assert_eq!(scene.plugins(&subscriber("viewer")), ["noop"]);
    scene.media_flows();
}

#[test]
fn what_needs_a_restart_is_named_and_nothing_is_changed() {
    let mut scene = Scene::new();
    let mut config = scene.config();
    config.server.workers = Some(7);
    config.chains.get_mut("egress").unwrap().clear();
    config.routes[0].publisher.streams[0].clock_rate = 1;
    config.routes[0].subscribers[0].leg.mtu = 1000;
    let mut other = config.routes[0].clone();
    other.name = "other".into();
    config.routes.push(other);
    let Err(ReloadError::Restart(reasons)) = scene.running.relay.reload(config) else { panic!() };
    assert_eq!(
        reasons,
        [
            "server.workers has changed",
            "the publisher of the route camera has changed",
            "the subscriber viewer of the route camera has changed",
            "the route other is new",
        ]
    );
    assert_eq!(scene.plugins(&subscriber("viewer")), ["noop"]);
    let mut config = scene.config();
    config.routes[0].subscribers.clear();
    let error = scene.running.relay.reload(config).unwrap_err().to_string();
    assert_eq!(
        error,
        "a restart is needed for what has changed: the list of subscribers (viewer is gone) of the route camera has \
         changed"
    );
    scene.media_flows();
}

#[test]
fn a_configuration_that_is_wrong_is_refused_as_at_the_start() {
    let scene = Scene::new();
    let mut config = scene.config();
    config.routes[0].publisher.leg.chain = Some("nowhere".into());
    let error = scene.running.relay.reload(config).unwrap_err().to_string();
    assert!(error.starts_with("routes[0].publisher.chain: \"nowhere\" is no chain"), "{error}");
    let mut config = scene.config();
    config.plugins.insert("mine".into(), from_file(Path::new("/nowhere/mine.wasm")));
    let error = scene.running.relay.reload(config).unwrap_err().to_string();
    assert!(error.contains("looked for /nowhere/mine.wasm"), "{error}");
}
