;; Never returns when its interceptor is dropped.

(func $drop (param $self i32)
  (loop $ever (br $ever)))
