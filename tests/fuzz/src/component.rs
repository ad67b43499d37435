//! A component that was a plugin until some of its bytes were changed.

use std::time::Duration;

use bytes::Bytes;
use sandbar_host::{
    Chain, Datagram, Grants, Instant, Kind, MemberSpec, Packet, Plugin, RtpPacket, SessionSpec, Shard, ShardConfig,
    StreamInfo, TenantId,
};
use sandbar_tests::engine::engine;

use crate::input::{Input, Seed};
use crate::valid;

/// The plugins that are changed: small ones, in both lanes.
fn plugins() -> [&'static [u8]; 3] {
    let embedded = |name| sandbar_plugins::by_name(name).map_or(&[][..], |plugin| plugin.component);
    [embedded("noop"), embedded("packet-counter"), sandbar_tests::guests::TYPED_COUNTER]
}

/// Loads it, and puts what loads through a session's life, beside one of another tenant, who must not notice.
pub(crate) fn component(data: &[u8]) {
    let mut input = Input::new(data);
    let plugins = plugins();
    let mut component = plugins[usize::from(input.byte()) % plugins.len()].to_vec();
    while !input.is_empty() && !component.is_empty() {
        let at = input.long() as usize % component.len();
        let byte = input.byte();
        match input.byte() % 4 {
            0 => component[at] = byte,
            1 => component[at] ^= 1 << (byte % 8),
            2 => component.insert(at, byte),
            _ => drop(component.remove(at)),
        }
    }
    let grants = Grants { wasi: false, ..Grants::ALL };
    if let Ok(plugin) = Plugin::load(engine(), &component, &grants) {
        live(&plugin);
    }
}

fn live(plugin: &Plugin) {
    let mut shard = Shard::new(ShardConfig::default());
    let mut now = Instant::from_millis(1_000_000);
    let info = StreamInfo { ssrc: 7, clock_rate: 90_000, ..StreamInfo::default() };
    let neighbour = SessionSpec { tenant: TenantId(1), ..SessionSpec::default() };
    let Ok(neighbour) = shard.open_session(now, neighbour) else { unreachable!("it has no plugins") };
    let member = || MemberSpec::new(plugin.clone());
    let chain = Chain::new([member()]);
    if let Ok(session) = shard.open_session(now, SessionSpec { chain, ..SessionSpec::default() }) {
        let _ = shard.bind_remote_stream(now, session, info.clone());
        let _ = shard.bind_local_stream(now, session, info);
        let mut heard = 0;
        for round in 0..10 {
            let packet = Bytes::from(valid::rtp(7, round, b"media"));
            let datagram = |session| Datagram { session, kind: Kind::Rtp, bytes: packet.clone() };
            shard.read(now, [datagram(session), datagram(neighbour)]);
            shard.write(now, RtpPacket::parse(packet).map(|packet| (session, Packet::from(packet))));
            now = now + Duration::from_millis(100);
            shard.handle_timeout(now);
            let mut outputs = Vec::new();
            shard.take_outputs(&mut outputs);
            heard += outputs.iter().filter(|output| output.session == neighbour).count();
            if round == 5 {
                let _ = shard.control(now, session, 0, "{}");
                let _ = shard.replace_member(now, session, 0, member());
            }
        }
        assert_eq!(heard, 10, "the neighbour hears everything");
        shard.close_session(now, session);
    }
    assert_eq!(shard.instances(), 0, "nothing is left of it");
}

pub(crate) fn component_seeds() -> Vec<Vec<u8>> {
    // Nothing changed, a byte of the middle, and one near the end, of each.
    let edits = [&[][..], &[0, 0, 90, 3, 1, 1], &[0, 0, 200, 9, 3, 1, 0, 0, 77, 1, 0, 0]];
    (0..3).flat_map(|plugin| edits.map(|edit| Seed::default().bytes([plugin]).bytes(edit).0)).collect()
}
