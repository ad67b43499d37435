;; Brings sixteen megabytes of data.

(memory $memory 400)
(data $large (i32.const 2162688)
;; times 250000
  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)
