;; Hands packets on in reverse, as it may.

(func $hand-on
  (local $at i32)
  (local.set $at (global.get $out))
  (block $done
    (loop $next
      (local.set $at (i32.sub (local.get $at) (i32.const 24)))
      (br_if $done (i32.lt_u (local.get $at) (i32.const 16384)))
      (call $next (local.get $at) (i32.const 24))
      (br $next))))
