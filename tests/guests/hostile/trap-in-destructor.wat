;; Traps when its interceptor is dropped.

(func $drop (param $self i32)
  (unreachable))
