//! Behaviours that are tested by name on each of the four backends.

macro_rules! on_every_backend {
    ($($behaviour:ident)*) => {
        $(
            mod $behaviour {
                use super::BackendName;

                #[test]
                fn sequential() {
                    super::$behaviour(BackendName::Sequential);
                }
                #[test]
                fn threading() {
                    super::$behaviour(BackendName::Threading);
                }
                #[test]
                fn forking_style() {
                    super::$behaviour(BackendName::ForkingStyle);
                }
                #[test]
                fn event_loop() {
                    super::$behaviour(BackendName::EventLoop);
                }
            }
        )*
    };
}
