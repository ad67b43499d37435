//! UDP sockets on the loopback interface that do not lose anything by themselves, and a way to know if they did.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Context;
use mio::{Events, Poll};

/// Seconds of media at the demonstration's rate, for threads that wait for a processor: 200 packets a second, each of
/// which the kernel charges with about 2.5 KB.
pub(super) const BUFFER: usize = 4 << 20;
/// The longest wait for sockets, after which a thread looks whether it is to end.
pub(super) const MAX_WAIT: Duration = Duration::from_millis(50);

/// A socket at a free port.
pub(super) fn bind() -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no UDP socket on the loopback interface")?;
    let options = socket2::SockRef::from(&socket);
    // The kernel may grant less, or nothing; what it drops because of that is counted, see `kernel_drops`.
    let _ = options.set_recv_buffer_size(BUFFER);
    let _ = options.set_send_buffer_size(BUFFER);
    Ok(socket)
}

/// A socket that does not block.
pub(super) struct Socket {
    pub(super) io: mio::net::UdpSocket,
    buffer: Vec<u8>,
}

impl From<UdpSocket> for Socket {
    fn from(socket: UdpSocket) -> Self {
        Self { io: mio::net::UdpSocket::from_std(socket), buffer: vec![0; 1 << 16] }
    }
}

impl Socket {
    /// Takes what has come.
    pub(super) fn receive(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            match self.io.recv_from(&mut self.buffer) {
                Ok((length, _)) => each(&self.buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The other end has gone, which is no concern of this one.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a datagram. What has no room is lost, as on any link, and shows in the figures.
    pub(super) fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        match self.io.send_to(datagram, to) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Waits for sockets.
pub(super) fn wait(poll: &mut Poll, events: &mut Events, patience: Duration) -> io::Result<()> {
    match poll.poll(events, Some(patience)) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// How many datagrams the kernel had no room for, at local ports. `None` where it does not tell.
pub(super) fn kernel_drops(ports: &[u16]) -> Option<u64> {
    drops_in(&std::fs::read_to_string("/proc/net/udp").ok()?, ports)
}

/// Of the kernel's table: the second column is the local address and port in hexadecimal, the last one the drops.
fn drops_in(table: &str, ports: &[u16]) -> Option<u64> {
    table.lines().skip(1).try_fold(0, |sum, line| {
        let mut columns = line.split_whitespace();
        let (_, port) = columns.nth(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let drops: u64 = columns.next_back()?.parse().ok()?;
        Some(if ports.contains(&port) { sum + drops } else { sum })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_read_from_the_kernels_table() {
        let table = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  402: 0100007F:1770 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 123 2 0000000000000000 5
  403: 0100007F:1771 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 124 2 0000000000000000 7
";
        assert_eq!(drops_in(table, &[6000]), Some(5));
        assert_eq!(drops_in(table, &[6000, 6001]), Some(12));
        assert_eq!(drops_in(table, &[]), Some(0));
        assert_eq!(drops_in("header\nnonsense", &[1]), None);
    }
}
