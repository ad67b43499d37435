;; Never returns with its first packet.

(func $packet (param $frame i32)
  (loop $ever (br $ever)))
