package fanout

// minHeap is a binary heap, smallest first. Its owner guards it.
type minHeap[T interface{ before(T) bool }] []T

func (h *minHeap[T]) push(e T) {
	list := append(*h, e)
	i := len(list) - 1
	for i > 0 && e.before(list[(i-1)/2]) {
		list[i] = list[(i-1)/2]
		i = (i - 1) / 2
	}
	list[i] = e
	*h = list
}

// pop removes and returns the smallest element of a heap that is not empty.
func (h *minHeap[T]) pop() T {
	list := *h
	top, n := list[0], len(list)-1
	e := list[n]
	var none T
	list[n] = none // lets go of what an element points to
	list = list[:n]
	i := 0
	for {
		small := 2*i + 1
		if small >= n {
			break
		}
		if r := small + 1; r < n && list[r].before(list[small]) {
			small = r
		}
		if !list[small].before(e) {
			break
		}
		list[i] = list[small]
		i = small
	}
	if n > 0 {
		list[i] = e
	}
	*h = list
	return top
}
