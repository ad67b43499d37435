;; Hands on less than a frame's head.

(func $hand-on
  (call $next (i32.const 16384) (i32.const 23)))
