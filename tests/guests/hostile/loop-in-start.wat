;; Never returns as soon as it is instantiated.

(func $start
  (loop $ever (br $ever)))

(start $start)
