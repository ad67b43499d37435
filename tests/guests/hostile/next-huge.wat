;; Hands on all its memory as one list.

(func $hand-on
  (drop (memory.grow (i32.const 460)))
  (call $next (i32.const 0) (i32.mul (memory.size) (i32.const 65536))))
