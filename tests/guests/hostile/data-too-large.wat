;; Is larger than a component may be.

(data $large
;; times 530000
  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)
