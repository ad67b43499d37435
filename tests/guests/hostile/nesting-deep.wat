;; Has blocks in blocks, five thousand deep.

(func $nested (param $depth i32)
;; times 5000
  block
;; times 5000
  end
)
