;; Traps with its first packet.

(func $packet (param $frame i32)
  (unreachable))
