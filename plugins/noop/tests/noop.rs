//! The plugin natively.

use sandbar_plugin_noop::Noop;
use sandbar_sdk::testing::{Harness, packet};
use sandbar_sdk::{Binding, RtcpAccess, StreamInfo};

#[test]
fn it_is_never_on_the_path() {
    let mut harness = Harness::<Noop>::new("{}").unwrap();
    let info = StreamInfo { ssrc: 1, ..StreamInfo::default() };
    let (read, write) = (harness.bind_remote_stream(&info).unwrap(), harness.bind_local_stream(&info).unwrap());
    assert_eq!([harness.binding(read), harness.binding(write)], [Some(Binding::PASS); 2]);
    assert_eq!([harness.rtcp_reader(), harness.rtcp_writer()], [RtcpAccess::Pass; 2]);
    assert_eq!(harness.read(read, packet(1, 1, b"media"))[0].bytes, packet(1, 1, b"media"));
    assert_eq!(harness.next_timeout(), None);
}
