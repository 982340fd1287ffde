/* machine.h: what this process may use of the machine. */
#ifndef BASE_MACHINE_H
#define BASE_MACHINE_H

enum { MAX_THREADS = 1024 };

/* Cores that this process may run on: 1..MAX_THREADS. */
int processors_available(void);

#endif
