/* The corpus's traces, one after the other, as bundle_corpus.cmake wrote them. */
    .section .rodata.twinwalk_corpus, "a", @progbits
    .globl twinwalk_corpus_begin, twinwalk_corpus_end
twinwalk_corpus_begin:
    .incbin TWINWALK_CORPUS_BUNDLE
twinwalk_corpus_end:
    .byte 0
    .section .note.GNU-stack, "", @progbits
