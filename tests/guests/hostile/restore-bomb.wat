;; Fills all the memory that it gets when it takes over.

(func $restore (param $session i32) (param $state i32) (param $length i32) (result i32)
  (local $page i32)
  (block $full
    (loop $more
      (local.set $page (memory.grow (i32.const 1)))
      (br_if $full (i32.eq (local.get $page) (i32.const -1)))
      (i32.store (i32.mul (local.get $page) (i32.const 65536)) (i32.const 1))
      (br $more)))
  (call $interceptor (local.get $session)))
