;; Supplies a hundred thousand values at a time.

(import "sandbar:interceptor/stamps@0.1.0" "supply" (func $supply (param i32 i32 i32 i32 i32)))
(global $access i32 (i32.const 2))
(global $view i32 (i32.const 5))

(func $refill
  (call $supply (global.get $session) (i32.const 16) (i32.const 131072) (i32.const 1600000) (i32.const 256))
  (call $refused)
  (call $supply (global.get $session) (i32.const 16) (i32.const 131072) (i32.const 16384) (i32.const 256)))
