;; Supplies values without a size, and with one that is too large.

(import "sandbar:interceptor/stamps@0.1.0" "supply" (func $supply (param i32 i32 i32 i32 i32)))
(global $access i32 (i32.const 2))
(global $view i32 (i32.const 5))

(func $refill
  (call $supply (global.get $session) (i32.const 0) (i32.const 131072) (i32.const 0) (i32.const 256))
  (call $refused)
  (call $supply (global.get $session) (i32.const 0) (i32.const 131072) (i32.const 1000) (i32.const 256))
  (call $refused)
  (call $supply (global.get $session) (i32.const 255) (i32.const 131072) (i32.const 2550) (i32.const 256))
  (call $refused))
