;; Hands a packet on while it describes itself.

(func $describe (result i32)
  (drop (call $description))
  (call $next (i32.const 16384) (i32.const 24))
  (i32.const 192))
