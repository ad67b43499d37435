;; Hands a packet on twice in one list.

(func $packet (param $frame i32)
  (call $pass (local.get $frame))
  (call $pass (local.get $frame)))
