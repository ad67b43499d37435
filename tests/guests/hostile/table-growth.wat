;; Grows its table, and traps when it no longer does.

(func $packet (param $frame i32)
  (loop $more
    (if (i32.eq (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1)) (then (unreachable)))
    (br $more)))
