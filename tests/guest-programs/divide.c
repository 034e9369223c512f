/* divide.c - a program for the guest that divides by zero and catches the signal.
 *
 * The processor raises #DE at the instruction `division`; the kernel turns it into SIGFPE, and
 * returns to the program in on_signal(). Both addresses are printed first, so that they can be
 * found in a timeline. Status 0: the signal came, and says that it is about this division. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

extern char division[];

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    _exit(number == SIGFPE && info->si_code == FPE_INTDIV && info->si_addr == division ? 0 : 1);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};

    if (sigaction(SIGFPE, &action, NULL) < 0)
        return 2;
    printf("divide: the division is at %p, the handler at %p\n", (void *)division,
           (void *)on_signal);
    fflush(stdout);
    __asm__ volatile("xorl %%edx, %%edx\n\t"
                     "movl $1, %%eax\n\t"
                     "xorl %%ecx, %%ecx\n\t"
                     ".globl division\n"
                     "division: idivl %%ecx" ::
                         : "eax", "ecx", "edx", "cc");
    return 3;
}
