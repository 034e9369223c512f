/* terminal.c - raw mode by termios(3), and the keys that the monitor keeps for itself.
 *
 *   Ctrl-] q            leave
 *   Ctrl-] c            open the monitor's console, or close it
 *   Ctrl-] ] (or ^])    send Ctrl-] to the guest
 *   Ctrl-] h (or ?)     a line of help
 *
 * O_NONBLOCK is never set on the terminal: it would belong to the open file that the user's shell
 * shares with us, and stay after us. */
#include "cli/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE_KEY 0x1d /* Ctrl-] */

/* A signal handler and an atexit() function get no argument, so what they restore has to be in a
 * static variable: the one terminal that a process has. Written once, before raw mode. */
static struct termios saved;
static volatile sig_atomic_t changed;

static void restore(void)
{
    if (changed)
        tcsetattr(STDIN_FILENO, TCSANOW, &saved);
    changed = 0;
}

/* The handler was installed for one delivery (SA_RESETHAND): raised again, the signal kills. */
static void on_fatal_signal(int number)
{
    restore();
    raise(number);
}

static void catch_fatal_signals(void)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
    struct sigaction action = {.sa_handler = on_fatal_signal,
                               .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};

    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
        sigaction(fatal[i], &action, NULL);
}

int terminal_init(struct terminal *terminal, struct err *err)
{
    memset(terminal, 0, sizeof *terminal);
    if (!isatty(STDIN_FILENO))
        return 0;
    if (tcgetattr(STDIN_FILENO, &saved) < 0)
        return err_set(err, -errno, "the settings of this terminal cannot be read: %s",
                       strerror(errno));
    if (atexit(restore) != 0)
        return err_set(err, -ENOMEM, "the terminal could not be restored at the end");
    terminal->is_terminal = true;
    catch_fatal_signals();
    return 0;
}

void terminal_raw(struct terminal *terminal)
{
    struct termios raw = saved;

    if (!terminal->is_terminal)
        return;
    cfmakeraw(&raw);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    changed = 1;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

void terminal_restore(struct terminal *terminal)
{
    if (terminal->is_terminal)
        restore();
}

static void print_help_line(void)
{
    static const char line[] =
        "\r\n[Ctrl-] q leaves, Ctrl-] c opens the monitor, Ctrl-] ] sends Ctrl-]]\r\n";
    ssize_t ignored = write(STDERR_FILENO, line, sizeof line - 1);

    (void)ignored;
}

static void toggle_monitor(struct prompt *prompt)
{
    if (prompt->open)
        prompt_close(prompt);
    else if (prompt->vm)
        prompt_open(prompt);
}

/* The key after Ctrl-]. True: the guest gets Ctrl-]. */
static bool escape_command(struct terminal *terminal, uint8_t key, bool *quit)
{
    switch (key) {
    case ']':
    case ESCAPE_KEY: return true;
    case 'q':
    case 'Q': *quit = true; break;
    case 'c':
    case 'C': toggle_monitor(&terminal->prompt); break;
    default: print_help_line(); break;
    }
    return false;
}

bool terminal_size(const struct terminal *terminal, uint16_t *columns, uint16_t *rows)
{
    struct winsize size;

    if (!terminal->is_terminal || ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col)
        return false;
    *columns = size.ws_col;
    *rows = size.ws_row;
    return true;
}

size_t terminal_filter(struct terminal *terminal, uint8_t *bytes, size_t count, bool *quit)
{
    size_t kept = 0;

    if (!terminal->is_terminal)
        return count;
    for (size_t i = 0; i < count; i++) {
        uint8_t key = bytes[i];

        if (terminal->escape) {
            terminal->escape = false;
            if (escape_command(terminal, key, quit))
                bytes[kept++] = ESCAPE_KEY;
        } else if (key == ESCAPE_KEY) {
            terminal->escape = true;
        } else if (terminal->prompt.open) {
            prompt_key(&terminal->prompt, key);
        } else {
            bytes[kept++] = key;
        }
    }
    return kept;
}
