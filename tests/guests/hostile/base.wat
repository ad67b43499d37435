;; A plugin that does as it should: it stands before every packet, hands each on, and wakes itself every ten milliseconds.
;;
;; A behaviour is a file of module fields beside this one. What has a field's kind and name here takes its place there, and
;; the rest is added. `;; times N` repeats the line below it N times.
;;
;; | bytes           | what is there
;; | --------------- | ---------------------------------------------------
;; |   16..256       | what exports give back
;; |  256..1024      | what imports give back
;; | 1024..4096      | the texts of the description
;; | 4096..16384     | a behaviour's own
;; | 16384..65536    | the frames that are handed on
;; | 65536..2162688  | a ring in which the host puts what it passes

(import "[export]sandbar:interceptor/member@0.1.0" "[resource-new]interceptor" (func $new (param i32) (result i32)))
(import "sandbar:interceptor/burst@0.1.0" "next" (func $next (param i32 i32)))
(import "sandbar:interceptor/time@0.1.0" "now" (func $now (result i64)))
(import "sandbar:interceptor/time@0.1.0" "wake-session" (func $wake-session (param i32 i32 i64 i64)))

(memory $memory 34)
(table $table 1 funcref)

(global $heap (mut i32) (i32.const 65536))
;; Where the next frame goes that is handed on.
(global $out (mut i32) (i32.const 16384))
;; The session and the stream that came last.
(global $session (mut i32) (i32.const 0))
(global $stream (mut i32) (i32.const 0))

;; The grants that it wants: a bit each, from emit-rtp on.
(global $wants i32 (i32.const 0))
;; What it is asked about: all four.
(global $binds i32 (i32.const 15))
;; What it answers to a bind: the access, 0 to 3; the view or the extension's id; and packets of history.
(global $access i32 (i32.const 3))
(global $view i32 (i32.const 0))
(global $history i32 (i32.const 0))

(data $version (i32.const 1280) "1.0.0")
(data $summary (i32.const 1296) "Misbehaves in one way")

;; What the host calls, without what is not looked at.

(func $create (param $session i32) (result i32)
  (call $interceptor (local.get $session)))

(func $restore (param $session i32) (param $state i32) (param $length i32) (result i32)
  (call $interceptor (local.get $session)))

(func $save (result i32)
  (i32.store8 (i32.const 128) (i32.const 1))
  (i32.store (i32.const 132) (i32.const 1280))
  (i32.store (i32.const 136) (i32.const 5))
  (i32.const 128))

(func $bind-rtcp (result i32)
  (i32.store8 (i32.const 96) (i32.const 0))
  (i32.store8 (i32.const 100) (i32.const 2))
  (i32.const 96))

(func $bind (param $stream i32) (result i32)
  (call $binding (local.get $stream)))

(func $binding (param $stream i32) (result i32)
  (global.set $stream (local.get $stream))
  (i32.store8 (i32.const 64) (i32.const 0))
  (i32.store8 (i32.const 68) (global.get $access))
  (i32.store8 (i32.const 69) (global.get $view))
  (i32.store (i32.const 72) (global.get $history))
  (i32.store8 (i32.const 76) (i32.const 0))
  (i32.const 64))

(func $unbind)

(func $packet (param $frame i32)
  (call $pass (local.get $frame)))

(func $timer (param $frame i32)
  (call $wake (i32.load offset=4 (local.get $frame))))

(func $refill)

(func $control (result i32)
  (i32.store8 (i32.const 160) (i32.const 0))
  (i32.store (i32.const 164) (i32.const 1280))
  (i32.store (i32.const 168) (i32.const 5))
  (i32.const 160))

(func $close)
(func $drop (param $self i32))

(func $describe (result i32)
  (call $description))

(func $description (result i32)
  (i32.store (i32.const 192) (i32.const 1024))
  (i32.store (i32.const 196) (global.get $name-length))
  (i32.store (i32.const 200) (i32.const 1280))
  (i32.store (i32.const 204) (i32.const 5))
  (i32.store (i32.const 208) (i32.const 1296))
  (i32.store (i32.const 212) (i32.const 21))
  (i32.store8 (i32.const 216) (i32.const 11))
  (i32.store8 (i32.const 217) (global.get $wants))
  (i32.store8 (i32.const 218) (global.get $binds))
  (i32.store (i32.const 220) (i32.const 4))
  (i32.store (i32.const 224) (i32.const 0))
  (i32.const 192))

(func $realloc (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
  (local $at i32)
  (if (i32.gt_u (local.get $size) (i32.const 2097152)) (then (unreachable)))
  (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
  (if (i32.gt_u (i32.add (local.get $at) (local.get $size)) (i32.const 2162688))
    (then (local.set $at (i32.const 65536))))
  (global.set $heap (i32.add (local.get $at) (local.get $size)))
  (local.get $at))

;; What those are made of.

(func $interceptor (param $session i32) (result i32)
  (global.set $session (local.get $session))
  (call $wake (local.get $session))
  (i32.store8 (i32.const 16) (i32.const 0))
  (i32.store (i32.const 20) (call $new (local.get $session)))
  (i32.const 16))

(func $wake (param $session i32)
  (call $wake-session (local.get $session) (i32.const 1) (i64.add (call $now) (i64.const 10000000)) (i64.const 0)))

(func $process (param $frames i32) (param $length i32)
  (local $end i32)
  (global.set $out (i32.const 16384))
  (local.set $end (i32.add (local.get $frames) (local.get $length)))
  (block $done
    (loop $next
      (br_if $done (i32.ge_u (local.get $frames) (local.get $end)))
      (call $frame (local.get $frames))
      (local.set $frames
        (i32.add (i32.add (local.get $frames) (i32.const 24)) (i32.load16_u offset=2 (local.get $frames))))
      (br $next)))
  (call $hand-on))

(func $hand-on
  (call $next (i32.const 16384) (i32.sub (global.get $out) (i32.const 16384))))

(func $frame (param $frame i32)
  (local $kind i32)
  (local.set $kind (i32.load8_u (local.get $frame)))
  (if (i32.lt_u (local.get $kind) (i32.const 4))
    (then (call $packet (local.get $frame)))
    (else (if (i32.eq (local.get $kind) (i32.const 6))
      (then (call $refill))
      (else (call $timer (local.get $frame)))))))

;; Lets a packet go on as it came.
(func $pass (param $frame i32)
  (memory.copy (global.get $out) (local.get $frame) (i32.const 24))
  (i32.store16 offset=2 (global.get $out) (i32.const 0))
  (global.set $out (i32.add (global.get $out) (i32.const 24))))

;; Lets a packet go on with all the bytes that were shown.
(func $pass-whole (param $frame i32)
  (local $size i32)
  (local.set $size (i32.add (i32.const 24) (i32.load16_u offset=2 (local.get $frame))))
  (memory.copy (global.get $out) (local.get $frame) (local.get $size))
  (global.set $out (i32.add (global.get $out) (local.get $size))))

;; Whether a frame has an RTP packet.
(func $is-rtp (param $frame i32) (result i32)
  (i32.lt_u (i32.load8_u (local.get $frame)) (i32.const 2)))

;; Traps unless the host has refused what it was asked last: a behaviour that is let have its way fails.
(func $refused
  (if (i32.eqz (i32.load8_u (i32.const 256))) (then (unreachable))))

;; Takes time, and does nothing with it.
(func $spin (param $times i32)
  (loop $again
    (local.set $times (i32.sub (local.get $times) (i32.const 1)))
    (br_if $again (local.get $times))))

;; The exports, by the names and with the types that the contract gives them.

(func $create-in-full (param $session i32) (param i32 i32 i32 i32 i32 i32) (result i32)
  (call $create (local.get $session)))
(func $restore-in-full (param $session i32) (param i32 i32 i32 i32 i32 i32) (param $state i32) (param $length i32) (result i32)
  (call $restore (local.get $session) (local.get $state) (local.get $length)))
(func $save-in-full (param i32) (result i32) (call $save))
(func $bind-rtcp-in-full (param i32) (result i32) (call $bind-rtcp))
;; The stream's info is in memory: the stream's number stands first, behind the interceptor's.
(func $bind-in-full (param $record i32) (result i32)
  (call $bind (i32.load offset=4 (local.get $record))))
(func $unbind-in-full (param i32 i32) (call $unbind))
(func $control-in-full (param i32 i32 i32) (result i32) (call $control))
(func $close-in-full (param i32) (call $close))
(func $post-return (param i32))
;; The host never calls these of a plugin in the batched lane.
(func $rtp-in-full (param i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32) (unreachable))
(func $rtcp-in-full (param i32 i32 i64 i32 i32) (result i32) (unreachable))
(func $timeout-in-full (param i32 i64 i32 i32) (unreachable))
(func $refill-in-full (param i32 i32) (unreachable))

(export "memory" (memory $memory))
(export "cabi_realloc" (func $realloc))
(export "sandbar:interceptor/description@0.1.0#describe" (func $describe))
(export "sandbar:interceptor/batch@0.1.0#process" (func $process))
(export "sandbar:interceptor/member@0.1.0#[dtor]interceptor" (func $drop))
(export "sandbar:interceptor/member@0.1.0#[static]interceptor.create" (func $create-in-full))
(export "sandbar:interceptor/member@0.1.0#[static]interceptor.restore" (func $restore-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.save" (func $save-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.bind-rtcp-reader" (func $bind-rtcp-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.bind-rtcp-writer" (func $bind-rtcp-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.bind-local-stream" (func $bind-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.bind-remote-stream" (func $bind-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.unbind-local-stream" (func $unbind-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.unbind-remote-stream" (func $unbind-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.read-rtp" (func $rtp-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.write-rtp" (func $rtp-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.read-rtcp" (func $rtcp-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.write-rtcp" (func $rtcp-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.handle-timeout" (func $timeout-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.refill-stamps" (func $refill-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.control" (func $control-in-full))
(export "sandbar:interceptor/member@0.1.0#[method]interceptor.close" (func $close-in-full))
(export "cabi_post_sandbar:interceptor/member@0.1.0#[method]interceptor.control" (func $post-return))
