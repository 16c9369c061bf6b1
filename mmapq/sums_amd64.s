#include "textflag.h"

// REST continues the sum in R over the N bytes at P.
#define REST(P, N, R, words, four, two, one, done) \
words: \
	CMPQ   N, $8 \
	JLT    four \
	CRC32Q (P), R \
	ADDQ   $8, P \
	SUBQ   $8, N \
	JMP    words \
four: \
	TESTQ  $4, N \
	JZ     two \
	CRC32L (P), R \
	ADDQ   $4, P \
two: \
	TESTQ  $2, N \
	JZ     one \
	CRC32W (P), R \
	ADDQ   $2, P \
one: \
	TESTQ  $1, N \
	JZ     done \
	CRC32B (P), R \
done: \
	NOTL   R

// func sums3(sums *[3]uint32, a, b, c *byte, na, nb, nc int)
TEXT ·sums3(SB), NOSPLIT, $0-56
	MOVQ sums+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ c+24(FP), CX
	MOVQ na+32(FP), R11
	MOVQ nb+40(FP), R12
	MOVQ nc+48(FP), R13
	MOVL 0(DI), R8
	MOVL 4(DI), R9
	MOVL 8(DI), R10
	NOTL R8
	NOTL R9
	NOTL R10

	// As many words as the shortest has.
	MOVQ R11, BX
	CMPQ R12, BX
	CMOVQLT R12, BX
	CMPQ R13, BX
	CMOVQLT R13, BX
	SHRQ $3, BX
	MOVQ BX, AX
	SHLQ $3, AX
	SUBQ AX, R11
	SUBQ AX, R12
	SUBQ AX, R13
	TESTQ BX, BX
	JZ   rest

together:
	CRC32Q (SI), R8
	CRC32Q (DX), R9
	CRC32Q (CX), R10
	ADDQ $8, SI
	ADDQ $8, DX
	ADDQ $8, CX
	DECQ BX
	JNZ  together

rest:
	REST(SI, R11, R8, aw, a4, a2, a1, ae)
	REST(DX, R12, R9, bw, b4, b2, b1, be)
	REST(CX, R13, R10, cw, c4, c2, c1, ce)
	MOVL R8, 0(DI)
	MOVL R9, 4(DI)
	MOVL R10, 8(DI)
	RET
