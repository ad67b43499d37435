;; Hands on bytes that are not in its memory.

(func $hand-on
  (call $next (i32.const 16384) (i32.const -1)))
