//! The rules that concern several keys at once: names that must lead somewhere, and what may be there only once.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::problem::{KeyPath, nearest};
use super::{Config, Fec, Leg, Peer, PluginSource, Publisher, Route, RtcpPort, Rtx, Sink, Stream, Subscriber};

/// A subscriber may not be called like the publisher's leg is in reports.
pub(crate) const PUBLISHER: &str = "publisher";

type Found = Vec<(KeyPath, String)>;

/// Everything that is wrong, by path.
pub(super) fn all(config: &Config) -> Found {
    let mut found = chains_alone(config);
    let routes = KeyPath::ROOT.key("routes");
    if config.routes.is_empty() {
        found.push((KeyPath::ROOT, "there are no `[[routes]]`, so there is nothing to relay".to_owned()));
    }
    let mut names = Unique::new("route");
    let mut sockets = Sockets::default();
    for (index, route) in config.routes.iter().enumerate() {
        let path = routes.index(index);
        names.take(route.name.as_str(), path.key("name"), &mut found);
        self::route(config, route, &path, &mut sockets, &mut found);
    }
    found
}

/// What is wrong with plugins and chains, whatever the routes are.
pub(super) fn chains_alone(config: &Config) -> Found {
    let mut found = Found::new();
    plugins(config, &mut found);
    chains(config, &mut found);
    found
}

fn plugins(config: &Config, found: &mut Found) {
    let path = KeyPath::ROOT.key("plugins");
    for (name, entry) in &config.plugins {
        let PluginSource::Builtin(builtin) = &entry.source else { continue };
        if sandbar_plugins::by_name(builtin).is_none() {
            let message = unknown("embedded plugin", builtin, embedded());
            found.push((path.key(name).key("builtin"), message));
        }
    }
}

fn embedded<'n>() -> impl Iterator<Item = &'n str> {
    sandbar_plugins::ALL.iter().map(|plugin| plugin.name)
}

fn chains(config: &Config, found: &mut Found) {
    for (name, members) in &config.chains {
        let path = KeyPath::ROOT.key("chains").key(name).key("members");
        for (index, member) in members.iter().enumerate() {
            let path = path.index(index);
            if config.plugin(&member.plugin).is_none() {
                let known = config.plugins.keys().map(String::as_str).chain(embedded());
                found.push((path.key("plugin"), unknown("plugin", &member.plugin, known)));
            }
            // Only a configuration built in code can be wrong here; TOML is turned into JSON.
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&member.config) {
                found.push((path.key("config"), format!("not JSON: {error}")));
            }
            found.extend(
                member.sink.as_ref().and_then(|sink| sink_of(config, sink)).map(|wrong| (path.key("sink"), wrong)),
            );
        }
    }
}

/// What is wrong with a sink: a file in a folder that is not there is told now, not when media flows.
fn sink_of(config: &Config, sink: &Sink) -> Option<String> {
    let file = sink.file.to_string_lossy();
    if file.replace("{leg}", "").contains(['{', '}']) {
        return Some(format!("{{leg}} is all that stands for something in a file's name; found \"{file}\""));
    }
    let path = config.folder().join(sink.path("leg"));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    (!folder.is_dir()).then(|| format!("there is no folder {}; a file is made, a folder is not", folder.display()))
}

fn route(config: &Config, route: &Route, path: &KeyPath, sockets: &mut Sockets, found: &mut Found) {
    // A tenant that is misspelt would be one without rules.
    if !config.tenants.is_empty() && !config.tenants.contains_key(&route.tenant) {
        let known = config.tenants.keys().map(String::as_str);
        found.push((path.key("tenant"), unknown("tenant", &route.tenant, known)));
    }
    tenant(config, route, path, found);
    let publisher = path.key("publisher");
    leg(config, &route.publisher.leg, &publisher, sockets, found);
    streams(&route.publisher, &publisher.key("streams"), found);
    let mut names = Unique::new("subscriber of this route");
    for (index, subscriber) in route.subscribers.iter().enumerate() {
        let path = path.key("subscribers").index(index);
        if subscriber.name == PUBLISHER {
            found.push((path.key("name"), format!("\"{PUBLISHER}\" is what the publisher's leg is called in reports")));
        }
        names.take(subscriber.name.as_str(), path.key("name"), found);
        leg(config, &subscriber.leg, &path, sockets, found);
        overrides(&route.publisher, subscriber, &path.key("streams"), found);
    }
}

/// The plugins in a route's chains that its tenant may not use.
fn tenant(config: &Config, route: &Route, path: &KeyPath, found: &mut Found) {
    let Some(allowed) = config.tenants.get(&route.tenant).and_then(|tenant| tenant.plugins.as_ref()) else { return };
    let legs = std::iter::once(&route.publisher.leg).chain(route.subscribers.iter().map(|subscriber| &subscriber.leg));
    let mut told = HashSet::new();
    for (chain, members) in legs.filter_map(|leg| config.chains.get_key_value(leg.chain.as_ref()?)) {
        for member in members.iter().filter(|member| !allowed.contains(&member.plugin)) {
            if told.insert((chain, &member.plugin)) {
                let message = format!(
                    "the chain {chain} has the plugin {}, which the tenant {} may not use: its plugins are {}",
                    member.plugin,
                    route.tenant,
                    if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") }
                );
                found.push((path.key("tenant"), message));
            }
        }
    }
}

fn leg(config: &Config, leg: &Leg, path: &KeyPath, sockets: &mut Sockets, found: &mut Found) {
    if let Some(chain) = &leg.chain
        && !config.chains.contains_key(chain)
    {
        found.push((path.key("chain"), unknown("chain", chain, config.chains.keys().map(String::as_str))));
    }
    sockets.take(leg.listen, path.key("listen"), found);
    match leg.rtcp {
        RtcpPort::Mux => {}
        RtcpPort::Address(address) => sockets.take(address, path.key("rtcp"), found),
        RtcpPort::Next => match leg.listen.port() {
            // Any free port is asked for, and the one after it may be taken.
            0 | u16::MAX => found.push((
                path.key("listen"),
                format!("port {} has no next port for RTCP; write rtcp = \"mux\" or an address", leg.listen.port()),
            )),
            port => {
                let mut next = leg.listen;
                next.set_port(port + 1);
                sockets.take(next, path.key("listen"), found);
            }
        },
    }
    let Peer::Static { rtp, rtcp, .. } = leg.peer else { return };
    let local_rtcp = if let RtcpPort::Address(address) = leg.rtcp { address } else { leg.listen };
    for (peer, local, key) in [(Some(rtp), leg.listen, "peer"), (rtcp, local_rtcp, "rtcp_peer")] {
        let Some(peer) = peer else { continue };
        if peer.is_ipv4() != local.is_ipv4() {
            let message = format!("{peer} cannot be reached from {local}: one is IPv4 and the other IPv6");
            found.push((path.key(key), message));
        }
        if peer.port() == 0 || peer.ip().is_unspecified() {
            found.push((path.key(key), format!("{peer} is no address to send to; it needs a host and a port")));
        }
    }
    if rtcp.is_none() && leg.rtcp != RtcpPort::Mux && rtp.port() == u16::MAX {
        found.push((path.key("peer"), "port 65535 has no next port for RTCP; write rtcp_peer".to_owned()));
    }
}

fn streams(publisher: &Publisher, path: &KeyPath, found: &mut Found) {
    if publisher.streams.is_empty() {
        found.push((path.clone(), "a publisher has at least one stream".to_owned()));
    }
    let mut names = Unique::new("stream of this route");
    let mut payload_types = Unique::new("payload type of this route");
    let mut ssrcs = Unique::new("ssrc of this route");
    for (index, stream) in publisher.streams.iter().enumerate() {
        let path = path.index(index);
        names.take(stream.name.as_str(), path.key("name"), found);
        // Streams that name their sources may share a payload type, as simulcast layers do.
        match stream.ssrc {
            None => payload_types.take(stream.payload_type, path.key("payload_type"), found),
            Some(ssrc) => {
                payload_types.note(stream.payload_type, path.key("payload_type"));
                ssrcs.take(ssrc, path.key("ssrc"), found);
            }
        }
        if let Some(rtx) = stream.rtx {
            let path = path.key("rtx");
            rtx_of(stream, rtx, &path, found);
            match rtx.ssrc {
                None if rtx.payload_type == stream.payload_type => {}
                None => payload_types.take(rtx.payload_type, path.key("payload_type"), found),
                Some(ssrc) => ssrcs.take(ssrc, path.key("ssrc"), found),
            }
        }
        if let Some(fec) = stream.fec {
            let path = path.key("fec");
            let own = fec_of(stream, stream.rtx, fec, &path, found);
            match fec.ssrc {
                None if own => payload_types.take(fec.payload_type, path.key("payload_type"), found),
                None => {}
                Some(ssrc) => ssrcs.take(ssrc, path.key("ssrc"), found),
            }
        }
        extensions(&stream.extensions, &path.key("extensions"), found);
    }
}

fn overrides(publisher: &Publisher, subscriber: &Subscriber, path: &KeyPath, found: &mut Found) {
    let mut names = Unique::new("stream of this subscriber");
    let mut ssrcs = Unique::new("ssrc of this subscriber");
    for stream in &publisher.streams {
        if let Some(ssrc) = stream.ssrc {
            ssrcs.note(ssrc, path.clone());
        }
    }
    for (index, stream) in subscriber.streams.iter().enumerate() {
        let path = path.index(index);
        names.take(stream.name.as_str(), path.key("name"), found);
        let Some(original) = publisher.streams.iter().find(|original| original.name == stream.name) else {
            let known = publisher.streams.iter().map(|stream| stream.name.as_str());
            found.push((path.key("name"), unknown("stream of the publisher", &stream.name, known)));
            continue;
        };
        if let Some(Some(rtx)) = stream.rtx {
            rtx_of(original, rtx, &path.key("rtx"), found);
            if let Some(ssrc) = rtx.ssrc {
                ssrcs.take(ssrc, path.key("rtx").key("ssrc"), found);
            }
        }
        if let Some(Some(fec)) = stream.fec {
            fec_of(original, stream.rtx.unwrap_or(original.rtx), fec, &path.key("fec"), found);
            if let Some(ssrc) = fec.ssrc {
                ssrcs.take(ssrc, path.key("fec").key("ssrc"), found);
            }
        }
        extensions(stream.extensions.as_deref().unwrap_or_default(), &path.key("extensions"), found);
    }
}

fn rtx_of(stream: &Stream, rtx: Rtx, path: &KeyPath, found: &mut Found) {
    if rtx.payload_type == stream.payload_type {
        let message = format!("{} is the stream's own; RTX has one of its own (RFC 4588, 4)", rtx.payload_type);
        found.push((path.key("payload_type"), message));
    }
}

/// Whether the payload type of repair packets is their own.
fn fec_of(stream: &Stream, rtx: Option<Rtx>, fec: Fec, path: &KeyPath, found: &mut Found) -> bool {
    let whose = match fec.payload_type {
        taken if taken == stream.payload_type => "the stream's own",
        taken if rtx.is_some_and(|rtx| rtx.payload_type == taken) => "that of its retransmissions",
        _ => return true,
    };
    let message = format!("{} is {whose}; repair packets have one of their own", fec.payload_type);
    found.push((path.key("payload_type"), message));
    false
}

fn extensions(extensions: &[sandbar_host::RtpHeaderExtension], path: &KeyPath, found: &mut Found) {
    let mut ids = Unique::new("id of this stream's extensions");
    for (index, extension) in extensions.iter().enumerate() {
        ids.take(extension.id, path.index(index).key("id"), found);
    }
}

fn unknown<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    known.dedup();
    let hint = nearest(name, known.iter().copied()).map(|near| format!(", did you mean \"{near}\"?"));
    let known = if known.is_empty() { "there is none".to_owned() } else { format!("known: {}", known.join(", ")) };
    format!("\"{name}\" is no {what}{}; {known}", hint.unwrap_or_default())
}

/// Values that may be there once.
struct Unique<T> {
    what: &'static str,
    taken: HashMap<T, KeyPath>,
}

impl<T: std::hash::Hash + Eq + std::fmt::Display> Unique<T> {
    fn new(what: &'static str) -> Self {
        Self { what, taken: HashMap::new() }
    }

    fn note(&mut self, value: T, path: KeyPath) {
        self.taken.entry(value).or_insert(path);
    }

    fn take(&mut self, value: T, path: KeyPath, found: &mut Found) {
        match self.taken.get(&value) {
            Some(first) => found.push((path, format!("\"{value}\" is taken by {first}; each {} is unique", self.what))),
            None => {
                self.taken.insert(value, path);
            }
        }
    }
}

/// Addresses that are bound. Two on one port clash also where one of them is the wildcard.
#[derive(Default)]
struct Sockets(Vec<(SocketAddr, KeyPath)>);

impl Sockets {
    fn take(&mut self, address: SocketAddr, path: KeyPath, found: &mut Found) {
        if let Some((taken, first)) = self.0.iter().find(|(taken, _)| clash(*taken, address)) {
            found.push((path, format!("{address} clashes with {taken} of {first}; each port is bound once")));
        } else if address.port() != 0 {
            self.0.push((address, path));
        }
    }
}

fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    // `[::]` takes IPv4 too unless the system is told otherwise.
    let covers = |wild: IpAddr, other: IpAddr| wild.is_unspecified() && (wild.is_ipv6() || other.is_ipv4());
    a.port() == b.port() && (a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}
