//! Any sequence of operations, with plugins that fail in any way in between: under the policies that let packets go on,
//! every packet of every session goes on, once and in order, and after each operation each is accounted for.

use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, RngExt as _};
use sandbar_host::{Chain, ChainError, Datagram, Kind, SessionSpec, Tenant};

use crate::cast::{BOUNDED, OPEN, Plugins, any_open, assert_nothing_left, little, opens, tenant};
use crate::media::{Judge, Source, Verdict, control};
use crate::peers::{PeerId, World};

/// A session, and all streams that it ever had: what is unbound passes untouched.
struct Party {
    peer: PeerId,
    read: Source,
    written: Source,
    open: bool,
    members: usize,
}

/// Sessions, and the choices of what is done to them.
pub struct Chaos<R> {
    rng: R,
    world: World,
    plugins: Plugins,
    parties: Vec<Party>,
    next_ssrc: u32,
    /// Sessions at once, at most.
    most: usize,
    /// One of the two tenants, which has little of everything.
    bounded: Tenant,
}

impl<R: Rng> Chaos<R> {
    /// Nothing yet. The choices come from `rng`.
    pub fn new(plugins: Plugins, rng: R) -> Self {
        Self::with_sessions(plugins, rng, OPEN)
    }

    /// The same, with up to so many sessions at once.
    pub fn with_sessions(plugins: Plugins, rng: R, most: usize) -> Self {
        let (mut world, bounded) = (World::new(1), Tenant::new("bounded", little(most)));
        world.set_tenant(BOUNDED, &bounded);
        Self { rng, world, plugins, parties: Vec::new(), next_ssrc: 1, most, bounded }
    }

    fn open_party(&mut self) -> Option<usize> {
        any_open(&mut self.rng, self.parties.iter().map(|party| party.open))
    }

    fn source(&mut self) -> Source {
        self.next_ssrc += 1;
        Source { payload: 40, ..Source::video(self.next_ssrc) }
    }

    fn open(&mut self) {
        let members: Vec<_> = (0..self.rng.random_range(0..4)).map(|_| self.plugins.any(&mut self.rng)).collect();
        let (count, tenant) = (members.len(), tenant(&mut self.rng));
        if let Ok(peer) =
            self.world.open_on(0, SessionSpec { tenant, chain: Chain::new(members), ..SessionSpec::default() })
        {
            let (read, written) = (self.source(), self.source());
            self.parties.push(Party { peer, read, written, open: true, members: count });
            self.bind(self.parties.len() - 1);
        }
    }

    /// Binds both streams where they are not; a plugin may refuse them, and then they stay unbound.
    fn bind(&mut self, n: usize) {
        let Party { peer, read, written, .. } = &self.parties[n];
        let (read, written) = (read.info(), written.info());
        self.world.with(*peer, |shard, now, session| {
            let _ = shard.bind_remote_stream(now, session, read);
            let _ = shard.bind_local_stream(now, session, written);
        });
    }

    fn unbind(&mut self, n: usize) {
        let peer = self.parties[n].peer;
        let last = self.world.peer(peer).delivered.iter().rev().find_map(|delivered| delivered.stream);
        if let Some(stream) = last {
            self.world.with(peer, |shard, now, _| shard.unbind_stream(now, stream));
        }
    }

    fn read(&mut self) {
        let mut burst = Vec::new();
        for _ in 0..self.rng.random_range(1..12) {
            let Some(n) = self.open_party() else { return };
            let party = &mut self.parties[n];
            let session = self.world.peer(party.peer).session;
            let rtcp = self.rng.random_bool(0.1);
            let bytes: Bytes = if rtcp { control::picture_loss(1, party.written.ssrc) } else { party.read.packet() };
            burst.push(Datagram { session, kind: Kind::of(&bytes), bytes });
        }
        let peer = self.parties[0].peer;
        self.world.with(peer, |shard, now, _| shard.read(now, burst));
    }

    fn write(&mut self, n: usize) {
        let count = self.rng.random_range(1..5);
        let party = &mut self.parties[n];
        let packets = party.written.packets(count);
        self.world.send(party.peer, packets);
        if self.rng.random_bool(0.2) {
            self.world.send_rtcp(self.parties[n].peer, control::receiver_report(1));
        }
    }

    fn change(&mut self, n: usize) {
        let spec = self.plugins.any(&mut self.rng);
        let Party { peer, members, .. } = self.parties[n];
        let index = self.rng.random_range(0..=members);
        let what = self.rng.random_range(0..3);
        let result = self.world.with(peer, |shard, now, session| match what {
            0 => shard.insert_member(now, session, index, spec).map(|()| members + 1),
            1 => shard.replace_member(now, session, index, spec).map(|()| members),
            _ => shard.remove_member(now, session, index).map(|()| members - 1),
        });
        match result {
            Ok(members) => self.parties[n].members = members,
            Err(ChainError::NoSession) => panic!("an open session is not there"),
            Err(ChainError::NoMember { index: no, members: said }) => assert!(no >= said.min(members)),
            Err(_) => {}
        }
        let report = self.world.with(peer, |shard, _, session| shard.session_report(session)).expect("an open session");
        assert_eq!(report.members.len(), self.parties[n].members, "a chain has the members that were accepted");
    }

    fn step(&mut self) {
        let open = self.parties.iter().filter(|party| party.open).count();
        if opens(&mut self.rng, open, self.most) {
            return self.open();
        }
        let Some(n) = self.open_party() else { return };
        match self.rng.random_range(0..100) {
            0..45 => self.read(),
            45..65 => self.write(n),
            65..78 => self.world.run_for(Duration::from_micros(self.rng.random_range(0..30_000))),
            78..90 => self.change(n),
            90..93 => self.unbind(n),
            93..95 => self.bind(n),
            95..98 => {
                let peer = self.parties[n].peer;
                let _ = self.world.with(peer, |shard, now, session| shard.control(now, session, 0, "[]"));
            }
            _ => {
                self.parties[n].open = false;
                self.world.with(self.parties[n].peer, |shard, now, session| shard.close_session(now, session));
            }
        }
    }

    /// What was sent in a session is out, or was dropped, or is held by a plugin of its chain.
    fn account(&mut self, n: usize) {
        let Party { peer, read, written, .. } = &self.parties[n];
        let (peer, made) = (*peer, read.made + written.made);
        let report = self.world.with(peer, |shard, _, session| shard.session_report(session));
        let members = report.map(|report| report.members).unwrap_or_default();
        let (held, dropped): (usize, u64) =
            members.iter().fold((0, 0), |(held, dropped), member| (held + member.held, dropped + member.dropped));
        let out = self.world.peer(peer).rtp().count() + self.world.peer(peer).sent(Kind::Rtp).count();
        assert_eq!(made, (out + held) as u64 + dropped, "session {n}: {out} out, {held} held, {dropped} dropped");
    }

    /// Runs so many steps, and holds each session to what it was sent. Gives what each application and each wire had.
    ///
    /// # Panics
    /// If a packet is lost, doubled or out of place, or a session leaves something behind.
    pub fn run(mut self, steps: usize) -> Vec<(Vec<Bytes>, Vec<Bytes>)> {
        for _ in 0..steps {
            self.step();
            // Each after each step; of very many, some.
            let looked_at = self.rng.random_range(0..self.parties.len().div_ceil(4 * OPEN).max(1));
            for n in (looked_at..self.parties.len()).step_by(self.parties.len().div_ceil(4 * OPEN).max(1)) {
                if self.parties[n].open {
                    self.account(n);
                }
            }
        }
        // As long as the slowest pacer takes for what it may hold.
        self.world.run_for(Duration::from_secs(3));
        let mut all = Vec::new();
        for (n, party) in self.parties.iter().enumerate() {
            let wire: Vec<_> = self.world.peer(party.peer).sent(Kind::Rtp).cloned().collect();
            let delivered = &self.world.peer(party.peer).delivered;
            let read: Vec<_> = delivered.iter().map(|delivered| delivered.packet.to_bytes()).collect();
            for (source, packets) in [(&party.read, &read), (&party.written, &wire)] {
                let verdict = Judge::all(source, packets).verdict(source.made);
                assert_eq!(verdict, Verdict::perfect(source.made), "session {n}, {:x}", source.ssrc);
            }
            all.push((read, wire));
        }
        for n in 0..self.parties.len() {
            let peer = self.parties[n].peer;
            let report = self.world.with(peer, |shard, _, session| shard.session_report(session));
            for member in report.into_iter().flat_map(|report| report.members) {
                let went = member.packets_in - member.dropped - member.held as u64 + member.emitted;
                assert_eq!(member.packets_out, went, "{member:?}");
                assert_eq!((member.dropped, member.held), (0, 0), "{member:?}");
            }
        }
        let Some(Party { peer, .. }) = self.parties.first() else { return all };
        let peer = *peer;
        for n in 0..self.parties.len() {
            let Party { peer, open, .. } = self.parties[n];
            if open {
                self.world.with(peer, |shard, now, session| shard.close_session(now, session));
            }
        }
        assert_nothing_left(&mut self.world, [peer], &self.bounded);
        all
    }
}
