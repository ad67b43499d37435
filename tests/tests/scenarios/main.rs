//! What Sandbar promises, each promise a test named after it.
//!
//! | file | what it holds the host to |
//! | --- | --- |
//! | `empty_chain`, `repair`, `congestion`, `lanes`, `determinism`, `chaos`, `network` | packets arrive as they should |
//! | `swap`, `handover`, `lifecycle` | chains, streams and sessions change under traffic |
//! | `faults`, `sharing`, `storms` | a plugin's fault stays its own |
//! | `tenants` | what one tenant uses up is its own |
//! | `logs` | plugins that watch together see what each would see alone |
//! | `privacy`, `emission`, `history`, `hold`, `attributes` | what a plugin may see, send, keep, hold and say of packets |
//! | `binds` | what a plugin is asked about |
//! | `stamps` | header extensions that the host puts on packets for a plugin |
//! | `session_attributes` | what plugins of a chain tell each other beside the packets |
//! | `timers`, `control`, `rtcp`, `sink`, `malformed` | the rest of the contract, and bad input |
//! | `statistics` | what a plugin says of the packets is what became of them |
//! | `loading`, `wasi` | what is a plugin and what is not |

mod attributes;
mod binds;
mod chaos;
mod congestion;
mod control;
mod determinism;
mod emission;
mod empty_chain;
mod faults;
mod follow;
mod handover;
mod history;
mod hold;
mod lanes;
mod lifecycle;
mod loading;
mod logs;
mod malformed;
mod network;
mod privacy;
mod repair;
mod rtcp;
mod session_attributes;
mod sharing;
mod sink;
mod stamps;
mod statistics;
mod storms;
mod swap;
mod tenants;
mod timers;
mod wasi;

/// The guests, for this program alone: one that no scenario names does not compile.
#[deny(dead_code)]
#[allow(unreachable_pub)]
mod guests {
    include!(concat!(env!("OUT_DIR"), "/guests.rs"));
}

use bytes::Bytes;
use sandbar_host::{Chain, Event, FaultAction, FaultKind, MemberReport, MemberSpec, SessionSpec};
use sandbar_tests::engine::load;
use sandbar_tests::media::{Judge, Source, Verdict};
use sandbar_tests::peers::{PeerId, World};
use serde_json::Value;

/// A member with everything granted but WASI.
fn member(component: &[u8], config: Value) -> MemberSpec {
    MemberSpec::new(load(component)).with_config(config.to_string())
}

/// One of the standard plugins.
fn standard(name: &str) -> MemberSpec {
    let embedded = sandbar_plugins::by_name(name).unwrap_or_else(|| panic!("no standard plugin is called {name}"));
    MemberSpec::new(load(embedded.component))
}

/// A session with a chain of these members.
fn session(members: impl IntoIterator<Item = MemberSpec>) -> SessionSpec {
    SessionSpec { chain: Chain::new(members), ..SessionSpec::default() }
}

/// A world with one peer, a chain and a remote stream.
fn listener(members: impl IntoIterator<Item = MemberSpec>, source: &Source) -> (World, PeerId) {
    let mut world = World::new(1);
    let peer = world.open(session(members));
    world.bind_remote(peer, source.info());
    (world, peer)
}

/// A world with one peer, a chain and a local stream.
fn speaker(members: impl IntoIterator<Item = MemberSpec>, source: &Source) -> (World, PeerId) {
    let mut world = World::new(1);
    let peer = world.open(session(members));
    world.bind_local(peer, source.info());
    (world, peer)
}

/// Has a puppet do things, and gives back its answers.
fn tell(world: &mut World, peer: PeerId, member: usize, commands: Value) -> Vec<Value> {
    let answer = world.control(peer, member, &commands.to_string());
    serde_json::from_str(&answer).expect("a list of answers")
}

/// What a puppet has seen.
fn seen(world: &mut World, peer: PeerId, member: usize) -> Value {
    tell(world, peer, member, serde_json::json!([{ "do": "seen" }])).remove(0)
}

/// What a counter has counted.
fn counts(world: &mut World, peer: PeerId, member: usize) -> Value {
    serde_json::from_str(&world.control(peer, member, "counts")).expect("JSON")
}

/// The report of a member of a peer's chain.
fn report(world: &mut World, peer: PeerId, member: usize) -> MemberReport {
    world.with(peer, |shard, _, session| shard.session_report(session)).expect("an open session").members.remove(member)
}

/// What was delivered to a peer's application, as it is on the wire.
fn delivered(world: &World, peer: PeerId) -> Vec<Bytes> {
    world.peer(peer).delivered.iter().map(|delivered| delivered.packet.to_bytes()).collect()
}

/// What was sent by a peer, as it is on the wire.
fn sent(world: &World, peer: PeerId) -> Vec<Bytes> {
    world.peer(peer).sent.iter().map(|sent| sent.bytes.clone()).collect()
}

/// What became of the packets made so far of a source, at a peer's application.
fn heard(world: &World, peer: PeerId, source: &Source) -> Verdict {
    Judge::all(source, &delivered(world, peer)).verdict(source.made)
}

/// The faults that the world was told of: kind and what became of the member.
fn faults(world: &World) -> Vec<(FaultKind, FaultAction)> {
    let fault = |event: &Event| match event {
        Event::Fault { kind, action, .. } => Some((*kind, *action)),
        _ => None,
    };
    world.events.iter().filter_map(|(_, event)| fault(event)).collect()
}

/// The documents that were published: name and JSON.
fn published(world: &World) -> Vec<(String, String)> {
    let document = |event: &Event| match event {
        Event::Published { name, json, .. } => Some((name.clone(), json.clone())),
        _ => None,
    };
    world.events.iter().filter_map(|(_, event)| document(event)).collect()
}
